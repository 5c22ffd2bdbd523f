// Questions about the decoded motion that several parts of the viewer ask.

import { MISSING } from "./decode.js";

/** Index of the last frame that begins at or before a time in seconds. */
export function frameAt(times, seconds) {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= seconds + 1e-6) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Which of a person's own frames a frame of the video is; -1 where the person is not in view. */
export function rowOf(person, frame) {
  const row = frame - person.first;
  return row >= 0 && row < person.frames && hasJoints(person, row) ? row : -1;
}

function hasJoints(person, row) {
  for (let joint = 0; joint < person.jointCount; joint++) {
    if (person.states[row * person.jointCount + joint] !== MISSING) return true;
  }
  return false;
}

/** Copy a joint's position into `target`, metres; false where it is missing. */
export function jointInto(target, person, row, joint) {
  const at = (row * person.jointCount + joint) * 3;
  target.set(person.joints[at], person.joints[at + 1], person.joints[at + 2]);
  return person.states[row * person.jointCount + joint] !== MISSING;
}

/** Joints without children: hands, feet and head of a full body. */
export const leafJoints = (parents) => parents.map((_, joint) => joint).filter((joint) => !parents.includes(joint));

/** Smallest box around a person's path without the outermost percent at each end: `{min, max}`, or null. */
export function pathBounds(person) {
  const axes = [[], [], []];
  const stride = Math.max(1, Math.floor(person.frames / 2000)); // enough for a box
  for (let row = 0; row < person.frames; row += stride) {
    for (let joint = 0; joint < person.jointCount; joint++) {
      if (person.states[row * person.jointCount + joint] === MISSING) continue;
      const at = (row * person.jointCount + joint) * 3;
      for (let axis = 0; axis < 3; axis++) axes[axis].push(person.joints[at + axis]);
    }
  }
  if (axes[0].length === 0) return null;
  const sorted = axes.map((values) => Float32Array.from(values).sort());
  const at = (share) => sorted.map((values) => values[Math.round(share * (values.length - 1))]);
  return { min: at(0.01), max: at(0.99) };
}
