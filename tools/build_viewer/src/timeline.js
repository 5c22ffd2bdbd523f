// The timeline: a curve for each person, when each is in view, the playhead, and scrubbing by pointer.

import { MISSING, NOT_SEEN, SEEN } from "./decode.js";
import { frameAt } from "./motion.js";

const LANE_PX = 5; // height of the bar that shows when a person is in view
const PAD_PX = 6;

export class Timeline {
  /** `onSeek(frame)` is called while the user scrubs. */
  constructor(element, pose, quantities, { isHidden, onSeek }) {
    this.element = element;
    this.canvas = element.querySelector("canvas");
    this.playhead = element.querySelector(".vp3d-playhead");
    this.pose = pose;
    this.quantities = quantities;
    this.isHidden = isHidden;
    this.chosen = 0;
    this.cache = new Map();
    const { times } = pose;
    const gap = times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : 1;
    this.start = times[0];
    this.length = times[times.length - 1] - times[0] + gap;
    const seek = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      onSeek(frameAt(times, this.start + share * this.length));
    };
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      seek(event);
    });
    element.addEventListener("pointermove", (event) => {
      if (element.hasPointerCapture(event.pointerId)) seek(event);
    });
  }

  choose(index) {
    this.chosen = index;
    this.draw();
  }

  /** The chosen quantity's values of a person, for its own frames. */
  valuesOf(person) {
    const key = `${this.chosen}/${person.id}`;
    if (!this.cache.has(key)) this.cache.set(key, this.quantities[this.chosen].values(person));
    return this.cache.get(key);
  }

  moveTo(frame) {
    const share = (this.pose.times[frame] - this.start) / this.length;
    this.playhead.style.left = `${(100 * share).toFixed(3)}%`;
    this.element.setAttribute("aria-valuenow", String(frame));
    this.element.setAttribute("aria-valuetext", `frame ${frame}, ${this.pose.times[frame].toFixed(2)} seconds`);
  }

  draw() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width < 1 || height < 1) return;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const people = this.pose.people.filter((person) => !this.isHidden(person.id));
    const lanes = Math.min(people.length, 8) * LANE_PX;
    people.slice(0, 8).forEach((person, lane) => {
      this.#drawLane(context, person, width, height - lanes + lane * LANE_PX);
    });
    const range = this.#range(people);
    if (range) this.#drawCurves(context, people, range, width, height - lanes - PAD_PX);
  }

  #x(row, person, width) {
    return ((this.pose.times[person.first + row] - this.start) / this.length) * width;
  }

  #drawLane(context, person, width, top) {
    context.fillStyle = person.colors.core;
    const gap = width / this.pose.times.length;
    for (let row = 0; row < person.frames; ) {
      const state = laneState(person, row);
      let end = row + 1;
      while (end < person.frames && laneState(person, end) === state) end++;
      if (state !== MISSING) {
        context.globalAlpha = state === SEEN ? 0.95 : 0.3;
        const from = this.#x(row, person, width);
        const to = end < person.frames ? this.#x(end, person, width) : this.#x(end - 1, person, width) + gap;
        context.fillRect(from, top + 1, Math.max(1, to - from), LANE_PX - 2);
      }
      row = end;
    }
    context.globalAlpha = 1;
  }

  #range(people) {
    let low = Infinity;
    let high = -Infinity;
    for (const person of people) {
      const values = this.valuesOf(person).filter(Number.isFinite).sort();
      if (values.length === 0) continue;
      low = Math.min(low, values[Math.floor(0.002 * values.length)]);
      high = Math.max(high, values[Math.ceil(0.998 * (values.length - 1))]);
    }
    if (low > high) return null;
    const { least, most } = this.quantities[this.chosen];
    const missing = Math.max(0, least - (high - low));
    if (high + missing / 2 > most) return [Math.min(low, most - least), most];
    return low >= 0 && low < missing / 2 ? [0, high + missing - low] : [low - missing / 2, high + missing / 2];
  }

  #drawCurves(context, people, [low, high], width, height) {
    const y = (value) => PAD_PX + (1 - (Math.min(high, Math.max(low, value)) - low) / (high - low)) * (height - PAD_PX);
    const style = getComputedStyle(this.element);
    context.lineWidth = 1.5;
    for (const person of people) {
      context.strokeStyle = person.colors.core;
      context.beginPath();
      const values = this.valuesOf(person);
      let open = false;
      // At most two points a pixel: a long recording has many frames to one pixel, drawn as its lowest and highest.
      const step = Math.max(1, Math.floor(person.frames / width / 2) * 2);
      for (let row = 0; row < person.frames; row += step) {
        const part = values.subarray(row, row + step).filter(Number.isFinite);
        const x = this.#x(row, person, width);
        for (const value of part.length > 1 ? [Math.min(...part), Math.max(...part)] : part) {
          if (open) context.lineTo(x, y(value));
          else context.moveTo(x, y(value));
          open = true;
        }
        if (part.length === 0) open = false;
      }
      context.stroke();
    }
    context.fillStyle = style.getPropertyValue("--vp3d-muted");
    context.font = "11px system-ui, sans-serif";
    const { unit } = this.quantities[this.chosen];
    context.fillText(`${format(high)} ${unit}`, 4, 11);
    context.fillText(`${format(low)} ${unit}`, 4, height);
  }
}

const format = (value) => (Math.abs(value) >= 20 ? value.toFixed(0) : value.toFixed(2));

/** MISSING where not in view, SEEN where at least half of the joints are seen, else NOT_SEEN. */
function laneState(person, row) {
  const states = person.states.subarray(row * person.jointCount, (row + 1) * person.jointCount);
  const seen = states.reduce((count, state) => count + (state === SEEN), 0);
  if (states.every((state) => state === MISSING)) return MISSING;
  return 2 * seen >= person.jointCount ? SEEN : NOT_SEEN;
}
