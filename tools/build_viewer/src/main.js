// The web viewer of vp3d: finds its element and its data in the page, and joins the parts.

import { Bodies } from "./bodies.js";
import { quantitiesOf } from "./curves.js";
import { decodePose } from "./decode.js";
import { rowOf } from "./motion.js";
import { Player } from "./player.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { connectControls } from "./controls.js";

const RESTING_MS = 200; // a picture that nothing changed for so long is drawn in detail

class Viewer {
  constructor(root, pose) {
    this.root = root;
    this.pose = pose;
    this.bodies = new Bodies(pose);
    this.stage = new Stage(root.querySelector(".vp3d-scene canvas"), pose, this.bodies);
    this.player = new Player(pose.times, () => this.changed());
    this.quantities = quantitiesOf(pose);
    this.timeline = new Timeline(root.querySelector(".vp3d-timeline"), pose, this.quantities, {
      isHidden: (id) => this.bodies.hidden.has(id),
      onSeek: (frame) => this.seek(frame),
    });
    this.#attachVideo();
    connectControls(this);
    this.applyTheme();
    new ResizeObserver(() => this.resize()).observe(root);
    this.stage.controls.addEventListener("change", () => (this.stale = true));
    this.resize();
    this.stage.resetView(); // not before it has its size
    this.last = performance.now();
    requestAnimationFrame((now) => this.#tick(now));
  }

  seek(frame) {
    this.player.seek(frame);
    this.stale = true;
  }

  /** Something other than the frame changed: draw again, and show the controls' state. */
  changed() {
    this.stale = true;
    this.showState?.();
  }

  setVisible(id, visible) {
    if (visible) this.bodies.hidden.delete(id);
    else this.bodies.hidden.add(id);
    this.timeline.draw();
    this.changed();
  }

  applyTheme() {
    const style = getComputedStyle(this.root);
    const color = (name) => style.getPropertyValue(`--vp3d-${name}`).trim();
    this.stage.setTheme({
      background: color("scene"), grid: color("grid"), shadow: color("shadow"), frustum: color("frustum"),
    });
    this.timeline.draw();
    this.changed();
  }

  resize() {
    const { clientWidth, clientHeight } = this.root.querySelector(".vp3d-scene");
    this.stage.resize(clientWidth, clientHeight);
    this.timeline.draw();
    this.stale = true;
  }

  #attachVideo() {
    const video = this.root.querySelector("video");
    if (!video) return;
    const packed = document.getElementById("vp3d-video");
    if (packed) {
      const bytes = Uint8Array.from(atob(packed.textContent.trim()), (character) => character.charCodeAt(0));
      packed.textContent = ""; // the bytes are held once, not twice
      video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    }
    video.addEventListener("error", () => {
      this.root.querySelector(".vp3d-footage").dataset.failed = "";
    });
    this.player.attachVideo(video, Number(video.dataset.start));
  }

  #tick(now) {
    // A page in the background gets no pictures: time that nobody saw does not count.
    this.player.advance(Math.min((now - this.last) / 1000, 0.25));
    this.last = now;
    const { frame } = this.player;
    const resting = !this.stale && frame === this.shown && !this.player.playing && now - this.lastDraw > RESTING_MS;
    if (this.stale || frame !== this.shown) {
      this.stale = false;
      this.shown = frame;
      this.lastDraw = now;
      this.rested = !this.stage.software;
      this.stage.draw(frame, false);
      this.timeline.moveTo(frame);
      this.showFrame?.(frame);
    } else if (resting && !this.rested) {
      this.rested = true;
      this.stage.draw(frame, true);
    }
    requestAnimationFrame((next) => this.#tick(next));
  }
}

/** What other scripts of the page, and tests, may use. */
function publicApi(viewer) {
  const { pose, player, stage, bodies } = viewer;
  return {
    play: () => player.play(),
    pause: () => player.pause(),
    seek: (frame) => viewer.seek(frame),
    setSpeed: (speed) => player.setSpeed(speed),
    setPersonVisible: (id, visible) => viewer.setVisible(id, visible),
    follow: (id) => (stage.setFollow(id), viewer.changed()),
    /** What is on the screen now: the frame drawn last, who is in it, how many pictures were drawn so far. */
    state: () => ({
      frame: viewer.shown, frames: pose.times.length, playing: player.playing, speed: player.speed, drawn: stage.drawn,
      people: pose.people.filter((person) => rowOf(person, viewer.shown) >= 0 && !bodies.hidden.has(person.id))
        .map(({ id }) => id),
      follow: stage.follow, videoSeconds: player.video ? player.video.currentTime : null,
      cameraTarget: stage.controls.target.toArray(), cameraPosition: stage.camera.position.toArray(),
      instances: bodies.counts(),
    }),
    /** World positions of a person's joints at a frame, [[x, y, z], ...] in metres; null where not in view. */
    joints: (id, frame = viewer.shown) => {
      const person = pose.people.find((candidate) => candidate.id === id);
      const row = person ? rowOf(person, frame) : -1;
      if (row < 0) return null;
      const from = row * person.jointCount * 3;
      return pose.joints.map((_, joint) => [...person.joints.subarray(from + joint * 3, from + joint * 3 + 3)]);
    },
  };
}

async function start() {
  const root = document.querySelector(".vp3d");
  try {
    const pose = await decodePose(JSON.parse(document.getElementById("vp3d-data").textContent));
    window.vp3d = publicApi(new Viewer(root, pose));
    root.dataset.ready = "";
  } catch (error) {
    const message = root.querySelector(".vp3d-message");
    message.textContent = `The viewer cannot start: ${error.message}`;
    message.hidden = false;
    throw error;
  }
}

start();
