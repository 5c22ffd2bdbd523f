// Quantities over time, one number for each frame of a person, for the curves under the timeline.

import { MISSING, SEEN } from "./decode.js";

const SPEED_WINDOW_S = 0.1; // half the span that a speed is taken over: less than half a step, more than the noise

/** The quantities that a skeleton has: `{name, unit, least, most, values(person) -> Float32Array}`, NaN where
 *  unknown; a range smaller than `least` is not blown up to the whole height, and none goes beyond `most`. */
export function quantitiesOf(pose) {
  const joint = (name) => pose.joints.indexOf(name);
  const root = Math.max(0, pose.parents.indexOf(-1));
  const quantities = [
    { name: "speed over ground", unit: "m/s", least: 0.5, values: (person) => speed(pose, person, root) },
    { name: `${pose.joints[root]} height`, unit: "m", least: 0.2, values: (person) => height(person, root) },
  ];
  if (joint("head") >= 0) {
    quantities.push({ name: "head height", unit: "m", least: 0.2, values: (person) => height(person, joint("head")) });
  }
  for (const [upper, middle, lower] of [["hip", "knee", "ankle"], ["shoulder", "elbow", "wrist"]]) {
    for (const side of ["left", "right"]) {
      const chain = [upper, middle, lower].map((name) => joint(`${side}_${name}`));
      if (chain.includes(-1)) continue;
      const values = (person) => flexion(person, chain);
      quantities.push({ name: `${side} ${middle} flexion`, unit: "\u00b0", least: 20, values });
    }
  }
  quantities.push({ name: "joints seen", unit: "%", least: 20, most: 100, values: (person) => shareSeen(person) });
  return quantities;
}

const has = (person, row, joint) => person.states[row * person.jointCount + joint] !== MISSING;
const at = (person, row, joint) => (row * person.jointCount + joint) * 3;

function perRow(person, value) {
  return Float32Array.from({ length: person.frames }, (_, row) => value(row));
}

function height(person, joint) {
  return perRow(person, (row) => (has(person, row, joint) ? person.joints[at(person, row, joint) + 2] : NaN));
}

function speed({ times }, person, joint) {
  let from = 0;
  let to = 0;
  const time = (row) => times[person.first + row];
  return perRow(person, (row) => {
    while (from < row && time(from) < time(row) - SPEED_WINDOW_S - 1e-9) from++;
    while (to + 1 < person.frames && time(to + 1) <= time(row) + SPEED_WINDOW_S + 1e-9) to++;
    const start = Math.min(from, Math.max(0, row - 1)); // at a low frame rate at least the neighbours
    const stop = Math.max(to, Math.min(person.frames - 1, row + 1));
    if (stop === start || ![row, start, stop].every((place) => has(person, place, joint))) return NaN;
    const [a, b] = [at(person, start, joint), at(person, stop, joint)];
    const way = Math.hypot(person.joints[b] - person.joints[a], person.joints[b + 1] - person.joints[a + 1]);
    return way / (time(stop) - time(start));
  });
}

/** Angle by which a joint is bent, degrees: 0 where the limb is straight. */
function flexion(person, [upper, middle, lower]) {
  return perRow(person, (row) => {
    if (![upper, middle, lower].every((joint) => has(person, row, joint))) return NaN;
    const [a, b, c] = [upper, middle, lower].map((joint) => at(person, row, joint));
    let dot = 0;
    let first = 0;
    let second = 0;
    for (let axis = 0; axis < 3; axis++) {
      const u = person.joints[b + axis] - person.joints[a + axis];
      const v = person.joints[c + axis] - person.joints[b + axis];
      dot += u * v;
      first += u * u;
      second += v * v;
    }
    if (first < 1e-12 || second < 1e-12) return NaN;
    return (Math.acos(Math.min(1, Math.max(-1, dot / Math.sqrt(first * second)))) * 180) / Math.PI;
  });
}

function shareSeen(person) {
  return perRow(person, (row) => {
    let present = 0;
    let seen = 0;
    for (let joint = 0; joint < person.jointCount; joint++) {
      const state = person.states[row * person.jointCount + joint];
      present += state !== MISSING;
      seen += state === SEEN;
    }
    return present ? (100 * seen) / person.jointCount : NaN;
  });
}
