// The 3D scene around the people: camera and orbit, floor grid, light, the filming camera, labels.

import {
  AmbientLight, BufferGeometry, CanvasTexture, Color, DirectionalLight, Float32BufferAttribute, Fog, LineBasicMaterial,
  LineSegments, PerspectiveCamera, Scene, Sprite, SpriteMaterial, SRGBColorSpace, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { frameAt, jointInto, pathBounds, rowOf } from "./motion.js";

const FOV_DEG = 40;
// Beside and above the filming camera: shows the depth that the footage hides, and keeps left and right as filmed.
const SIDESTEP_DEG = 24;
const ELEVATION_DEG = 14;
const GRID_M = 12; // half the side of the floor grid, around the point that is looked at
const NEAR_OTHERS_M = 5; // people farther from the main person than this do not widen the first view
const FOLLOW_FROM_M = 12; // paths longer than this are followed from the start: whole, the person would be small
const FOLLOW_WINDOW_S = 0.5; // half the span that the followed point is averaged over, so that steps do not shake it
const FRUSTUM_M = 0.6; // how far in front of the filming camera its image is drawn
const FILL = 0.9; // share of the picture that the people may take in the first view: the rest is for labels
const NEAREST_M = 2.2; // metres; not closer than this, however still a person stands
const LABEL_ABOVE_M = 0.2; // a person's number above the head
const LABEL_SIZE = 0.024; // its height on the screen, at whatever distance

export class Stage {
  constructor(canvas, pose, bodies) {
    this.pose = pose;
    this.bodies = bodies;
    // Without a graphics card smooth edges cost as much as all the rest: then only pictures at rest have them.
    this.software = isSoftware();
    this.renderer = new WebGLRenderer({ canvas, antialias: !this.software, powerPreference: "high-performance" });
    this.camera = new PerspectiveCamera(FOV_DEG, 1, 0.05, 200);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.zoomToCursor = true;
    this.controls.maxPolarAngle = Math.PI * 0.98;
    this.scene = new Scene();
    this.sun = new DirectionalLight(0xffffff, 1.9);
    this.ambient = new AmbientLight(0xffffff, 1.5);
    this.grid = makeGrid();
    this.frustum = makeFrustum(pose);
    this.labels = new Map(pose.people.map((person) => [person.id, makeLabel(person)]));
    this.scene.add(this.sun, this.ambient, this.grid, this.frustum, bodies.group, ...this.labels.values());
    this.drawn = 0; // pictures drawn so far
    this.follow = null; // the id of the person whom the camera goes along with
  }

  /** Take the colours of the page's theme. */
  setTheme({ background, grid, shadow, frustum }) {
    this.scene.background = new Color(background);
    this.scene.fog = new Fog(new Color(background), GRID_M * 0.9, GRID_M * 2.2);
    this.grid.material.color.set(grid);
    this.frustum.material.color.set(frustum);
    this.bodies.setShadowColor(shadow);
  }

  resize(width, height) {
    if (width < 1 || height < 1) return;
    this.size = [width, height];
    this.#setDetail(false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
  }

  /** Draw a frame of the pose; `resting` when no other follows soon, so that it may take longer. */
  draw(frame, resting) {
    this.#setDetail(resting && this.software);
    this.bodies.update(frame);
    this.#moveAlong(frame);
    this.#placeLabels(frame);
    const { target } = this.controls;
    this.grid.position.set(Math.round(target.x), Math.round(target.y), 0);
    this.sun.position.copy(this.camera.position).add(new Vector3(0, 0, 4)).sub(target);
    this.scene.fog.near = GRID_M * 0.9 + this.camera.position.distanceTo(target);
    this.scene.fog.far = this.scene.fog.near + GRID_M;
    this.renderer.render(this.scene, this.camera);
    this.drawn += 1;
  }

  /** Twice the resolution, or that of the screen. */
  #setDetail(fine) {
    const ratio = fine ? 2 : this.software ? 1 : Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = this.size;
    const canvas = this.renderer.domElement;
    if (canvas.width === Math.floor(width * ratio) && canvas.height === Math.floor(height * ratio)) return;
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
  }

  /** Look from beside and above the filming camera, at the size at which the main people's paths fit. */
  resetView() {
    const { box, long } = this.#mainPlace();
    const [dx, dy] = this.#filmingDirection();
    const heading = Math.atan2(dy, dx) + (SIDESTEP_DEG * Math.PI) / 180;
    const tilt = (ELEVATION_DEG * Math.PI) / 180;
    const forward = [Math.cos(heading) * Math.cos(tilt), Math.sin(heading) * Math.cos(tilt), -Math.sin(tilt)];
    const center = middleOf(box);
    this.camera.fov = FOV_DEG;
    this.camera.updateProjectionMatrix();
    this.controls.target.set(...center);
    const distance = this.#fittingDistance(box, forward);
    this.camera.position.set(...center.map((value, axis) => value - forward[axis] * distance));
    this.setFollow(long ? this.pose.people[0].id : null);
    this.controls.update();
  }

  /** How far before the middle of a box the camera must stand to see all of it. */
  #fittingDistance(box, forward) {
    const ahead = new Vector3(...forward);
    const right = new Vector3().crossVectors(ahead, this.camera.up).normalize();
    const up = new Vector3().crossVectors(right, ahead);
    const tanUp = Math.tan((FOV_DEG * Math.PI) / 360) * FILL;
    const tanRight = tanUp * this.camera.aspect;
    let needed = NEAREST_M;
    for (let corner = 0; corner < 8; corner++) {
      const offset = [0, 1, 2].map((axis) => (((corner >> axis) & 1 ? 1 : -1) * (box.max[axis] - box.min[axis])) / 2);
      point.set(...offset);
      const across = Math.max(Math.abs(point.dot(right)) / tanRight, Math.abs(point.dot(up)) / tanUp);
      needed = Math.max(needed, across - point.dot(ahead));
    }
    return needed;
  }

  /** Look through the filming camera. */
  filmingView() {
    const { camera: filming, size } = this.pose;
    if (!filming) return;
    const forward = new Vector3(...filming.axes.map((row) => row[2]));
    this.setFollow(null);
    this.camera.position.set(...filming.position);
    const center = middleOf(this.#mainPlace().box);
    const depth = Math.max(1, new Vector3(...center).sub(this.camera.position).dot(forward));
    this.controls.target.copy(this.camera.position).addScaledVector(forward, depth);
    const up = (2 * Math.atan(size[1] / 2 / filming.intrinsics[1]) * 180) / Math.PI;
    const acrossTan = size[0] / 2 / filming.intrinsics[0] / this.camera.aspect;
    this.camera.fov = Math.max(up, (2 * Math.atan(acrossTan) * 180) / Math.PI);
    this.camera.updateProjectionMatrix();
    this.controls.update();
  }

  setFollow(id) {
    this.follow = id;
    this.followed = null;
  }

  #filmingDirection() {
    const axes = this.pose.camera?.axes;
    if (!axes) return [0, 1];
    const forward = [axes[0][2], axes[1][2]];
    // Filmed from straight above or below: "up" in the image leads on.
    return Math.hypot(...forward) > 0.2 ? forward : [-axes[0][1], -axes[1][1]];
  }

  /** The box to show at first, and whether the main person leaves it because the path is long. */
  #mainPlace() {
    const boxes = this.pose.people.map(pathBounds).filter(Boolean);
    if (boxes.length === 0) return { box: { min: [-1, -1, 0], max: [1, 1, 1.8] }, long: false };
    const [main, ...others] = boxes;
    const spread = Math.hypot(main.max[0] - main.min[0], main.max[1] - main.min[1]);
    if (spread > FOLLOW_FROM_M) {
      const [x, y, z] = this.#firstPlace();
      return { box: { min: [x - 1, y - 1, z - 1], max: [x + 1, y + 1, z + 1] }, long: true };
    }
    const near = others.filter((box) => distance(middleOf(box), middleOf(main)) < NEAR_OTHERS_M);
    const all = [main, ...near];
    const bound = (side, choose) => [0, 1, 2].map((axis) => choose(...all.map((box) => box[side][axis])));
    return { box: { min: bound("min", Math.min), max: bound("max", Math.max) }, long: false };
  }

  #firstPlace() {
    const person = this.pose.people[0];
    const row = [...Array(person.frames).keys()].find((index) => rowOf(person, person.first + index) >= 0) ?? 0;
    jointInto(point, person, row, person.rootJoint);
    return point.toArray();
  }

  #moveAlong(frame) {
    const person = this.pose.people.find(({ id }) => id === this.follow);
    const place = person && this.#averagePlace(person, frame);
    if (!place) return;
    if (this.followed) {
      shift.subVectors(place, this.followed);
      this.camera.position.add(shift);
      this.controls.target.add(shift);
    } else {
      shift.subVectors(place, this.controls.target).setZ(0);
      this.camera.position.add(shift);
      this.controls.target.add(shift);
      this.followed = new Vector3();
    }
    this.followed.copy(place);
    this.controls.update();
  }

  /** Where a person is on the floor, averaged over a second; null where not in view. */
  #averagePlace(person, frame) {
    const { times } = this.pose;
    const from = frameAt(times, times[frame] - FOLLOW_WINDOW_S);
    const to = frameAt(times, times[frame] + FOLLOW_WINDOW_S);
    const step = Math.max(1, Math.floor((to - from) / 30)); // 30 frames are enough for an average
    sum.set(0, 0, 0);
    let count = 0;
    for (let i = from; i <= to; i += step) {
      const row = rowOf(person, i);
      if (row >= 0 && jointInto(point, person, row, person.rootJoint)) {
        sum.add(point.setZ(0));
        count += 1;
      }
    }
    return count ? sum.divideScalar(count) : null;
  }

  #placeLabels(frame) {
    const several = this.pose.people.length > 1;
    for (const person of this.pose.people) {
      const label = this.labels.get(person.id);
      const row = rowOf(person, frame);
      label.visible = several && row >= 0 && !this.bodies.hidden.has(person.id);
      if (!label.visible) continue;
      let top = null;
      for (let joint = 0; joint < person.jointCount; joint++) {
        if (jointInto(point, person, row, joint) && (!top || point.z > top.z)) top = point.clone();
      }
      if (top) label.position.copy(top).setZ(top.z + LABEL_ABOVE_M);
    }
  }
}

const point = new Vector3();
const shift = new Vector3();
const sum = new Vector3();
const middleOf = ({ min, max }) => min.map((value, axis) => (value + max[axis]) / 2);
const distance = (a, b) => Math.hypot(...a.map((value, axis) => value - b[axis]));

/** Whether the browser draws WebGL without a graphics card. */
function isSoftware() {
  const context = document.createElement("canvas").getContext("webgl2");
  if (!context) throw new Error("this browser has no WebGL 2; turn on hardware acceleration in its settings");
  const names = context.getExtension("WEBGL_debug_renderer_info");
  const name = context.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? context.RENDERER) ?? "";
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(name);
}

function lines(points, color = 0x888888) {
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new Float32BufferAttribute(points, 3));
  return new LineSegments(geometry, new LineBasicMaterial({ color }));
}

function makeGrid() {
  const points = [];
  for (let at = -2 * GRID_M; at <= 2 * GRID_M; at++) {
    points.push(at, -2 * GRID_M, 0, at, 2 * GRID_M, 0, -2 * GRID_M, at, 0, 2 * GRID_M, at, 0);
  }
  return lines(points);
}

function makeFrustum({ camera, size }) {
  if (!camera) return lines([]);
  const [fx, fy, cx, cy] = camera.intrinsics;
  const world = (u, v, depth = FRUSTUM_M) => {
    const local = [((u - cx) / fx) * depth, ((v - cy) / fy) * depth, depth];
    return camera.axes.map((row, axis) => camera.position[axis] + row.reduce((sum, r, i) => sum + r * local[i], 0));
  };
  const [width, height] = size;
  const corners = [[0, 0], [width, 0], [width, height], [0, height]].map(([u, v]) => world(u, v));
  const points = [];
  corners.forEach((corner, i) => points.push(...camera.position, ...corner, ...corner, ...corners[(i + 1) % 4]));
  const peak = world(width / 2, -0.25 * height); // a roof over the upper edge shows which side is up
  points.push(...corners[0], ...peak, ...peak, ...corners[1]);
  return lines(points);
}

function makeLabel({ id, colors }) {
  const canvas = document.createElement("canvas");
  canvas.width = 128;
  canvas.height = 64;
  const context = canvas.getContext("2d");
  context.fillStyle = colors.right;
  context.beginPath();
  context.roundRect(14, 4, 100, 56, 28);
  context.fill();
  context.fillStyle = "#fff";
  context.font = "bold 40px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(String(id), 64, 34);
  const map = new CanvasTexture(canvas);
  map.colorSpace = SRGBColorSpace;
  const label = new Sprite(new SpriteMaterial({ map, depthTest: false, fog: false, sizeAttenuation: false }));
  label.scale.set(LABEL_SIZE * 2, LABEL_SIZE, 1);
  return label;
}
