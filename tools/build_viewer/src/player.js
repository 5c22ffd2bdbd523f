// The clock: which frame is shown, playing at a speed, and a video kept in step.

import { frameAt } from "./motion.js";

export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
// While both play: a difference up to the first is smoothed away, up to the second the motion waits for the video or
// skips to it (a slow computer may decode slower than real time), beyond that the video is set anew.
const SMOOTHED_S = 0.1;
const FOLLOWED_S = 1.5;

export class Player {
  /** `onChange()` is called when playing starts or stops, or the speed changes. */
  constructor(times, onChange) {
    this.times = times;
    this.onChange = onChange;
    const gap = times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : 0;
    this.end = times[times.length - 1] + gap;
    this.seconds = times[0];
    this.speed = 1;
    this.playing = false;
    this.loop = true;
    this.video = null;
  }

  get frame() {
    return frameAt(this.times, this.seconds);
  }

  /** Keep a video element in step; its time 0 is `startS` in the pose's time. */
  attachVideo(video, startS) {
    this.video = video;
    this.videoStart = startS;
    video.addEventListener("loadedmetadata", () => this.#setVideo());
    video.addEventListener("seeked", () => this.late && this.#setVideo());
  }

  seek(frame) {
    const index = Math.min(this.times.length - 1, Math.max(0, Math.round(frame)));
    this.seconds = this.times[index];
    this.#setVideo();
  }

  step(frames) {
    this.pause();
    this.seek(this.frame + frames);
  }

  skip(seconds) {
    this.seek(frameAt(this.times, this.times[this.frame] + seconds));
  }

  setSpeed(speed) {
    this.speed = speed;
    if (this.video) this.video.playbackRate = speed;
    this.onChange();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.times.length < 2) return;
    if (this.frame === this.times.length - 1) this.seek(0);
    this.playing = true;
    this.#startVideo();
    this.onChange();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.video?.pause();
    this.seconds = this.times[this.frame];
    this.#setVideo();
    this.onChange();
  }

  /** Let time pass; `elapsed` is real seconds. */
  advance(elapsed) {
    if (!this.playing) return;
    this.seconds += elapsed * this.speed;
    this.#keepInStep();
    if (this.seconds < this.end) return;
    if (this.loop) {
      this.seek(0);
      this.#startVideo();
    } else {
      this.seek(this.times.length - 1);
      this.pause();
    }
  }

  #startVideo() {
    if (!this.video || !this.video.src) return;
    this.video.playbackRate = this.speed;
    this.video.play().catch(() => {}); // a browser that refuses leaves the motion playing alone
  }

  /** The video is the better clock while it plays. */
  #keepInStep() {
    const { video } = this;
    if (!video || video.paused || video.seeking || video.readyState < 2 || video.ended) return;
    const off = video.currentTime + this.videoStart - this.seconds;
    const size = Math.abs(off) / Math.max(1, this.speed);
    if (size < SMOOTHED_S) this.seconds += off * 0.1;
    else if (size < FOLLOWED_S) this.seconds += off;
    else this.#setVideo();
  }

  /** Show the video's frame of our time: the middle of the frame, as its ends round to the neighbours'. */
  #setVideo() {
    if (!this.video || this.video.readyState < 1) return;
    // While one seek is under way others only wait, so that scrubbing shows pictures on its way.
    this.late = this.video.seeking;
    if (this.late) return;
    const { frame } = this;
    const next = frame + 1 < this.times.length ? this.times[frame + 1] : this.end;
    const into = Math.min(0.5 * (next - this.times[frame]), 0.05);
    this.video.currentTime = Math.max(0, this.times[frame] - this.videoStart + into);
  }
}
