// The people in 3D: bones and joints as instanced cylinders and spheres, with flat shadows on the floor.

import {
  BufferGeometry, Color, CylinderGeometry, DynamicDrawUsage, Float32BufferAttribute, Group, IcosahedronGeometry,
  InstancedMesh, LineBasicMaterial, LineSegments, Matrix4, MeshBasicMaterial, MeshLambertMaterial, Vector3,
} from "three";
import { SEEN } from "./decode.js";
import { frameAt, jointInto, leafJoints, rowOf } from "./motion.js";

const STICK_M = 0.02; // radius of a bone of the skeleton
const BALL_M = 0.032; // and of its joints
// Radii of limbs that are drawn as capsules, metres, by the joint at the lower end (an adult of 1.7 m, by eye).
const CAPSULES_M = { knee: 0.075, ankle: 0.055, elbow: 0.045, wrist: 0.036, spine: 0.12, thorax: 0.125, neck: 0.05,
  head: 0.085, hip: 0.09, shoulder: 0.06 };
const CAPSULE_M = 0.04;
const SHADOW_M = 0.002; // above the floor, so that the grid does not flicker through
const TRAIL_S = 2;
const TRAIL_POINTS = 60;

/** Draws all people at one frame. `group` goes into the scene. */
export class Bodies {
  constructor(pose) {
    this.pose = pose;
    this.capsules = false;
    this.trails = false;
    this.hidden = new Set(); // ids of people who are switched off
    this.group = new Group();
    this.leaves = leafJoints(pose.parents);
    const bones = pose.people.length * pose.joints.length;
    this.solid = new Instances(bones, new MeshLambertMaterial());
    this.ghost = new Instances(bones, new MeshLambertMaterial({ transparent: true, opacity: 0.3, depthWrite: false }));
    this.shadow = new Instances(bones, new MeshBasicMaterial());
    this.shadow.group.matrixAutoUpdate = false;
    this.shadow.group.matrix.makeScale(1, 1, 0).setPosition(0, 0, SHADOW_M);
    this.trail = makeTrail(pose.people.length * this.leaves.length * TRAIL_POINTS);
    this.group.add(this.shadow.group, this.solid.group, this.ghost.group, this.trail);
    this.colors = pose.people.map(({ colors }) => ({
      left: new Color(colors.left), right: new Color(colors.right), core: new Color(colors.core),
    }));
  }

  setShadowColor(color) {
    this.shadow.setMaterialColor(color);
    this.background = new Color(color);
  }

  /** Place everything as it is at a frame. */
  update(frame) {
    for (const instances of [this.solid, this.ghost, this.shadow]) instances.begin();
    this.pose.people.forEach((person, index) => {
      const row = rowOf(person, frame);
      if (row >= 0 && !this.hidden.has(person.id)) this.#placePerson(person, row, this.colors[index]);
    });
    for (const instances of [this.solid, this.ghost, this.shadow]) instances.end();
    this.#updateTrails(frame);
  }

  /** How many cylinders and spheres were drawn last: of joints that were seen, and of those that were not. */
  counts() {
    const of = ({ bones, balls }) => ({ bones: bones.count, balls: balls.count });
    return { seen: of(this.solid), notSeen: of(this.ghost) };
  }

  #placePerson(person, row, colors) {
    const { joints, parents } = this.pose;
    for (let joint = 0; joint < joints.length; joint++) {
      if (!jointInto(end, person, row, joint)) continue;
      const color = colors[sideOf(joints[joint])];
      const seen = person.states[row * person.jointCount + joint] === SEEN;
      const radius = this.#radius(joints[joint]);
      const into = seen ? this.solid : this.ghost;
      into.addBall(end, this.capsules ? radius : BALL_M, color);
      this.shadow.addBall(end, this.capsules ? radius : BALL_M, color);
      const parent = parents[joint];
      if (parent < 0 || !jointInto(start, person, row, parent)) continue;
      const bothSeen = seen && person.states[row * person.jointCount + parent] === SEEN;
      const bone = bothSeen ? this.solid : this.ghost;
      bone.addBone(start, end, radius, color);
      this.shadow.addBone(start, end, radius, color);
      if (this.capsules) bone.addBall(start, radius, color);
    }
  }

  #radius(name) {
    return this.capsules ? (CAPSULES_M[name.replace(/^(left|right)_/, "")] ?? CAPSULE_M) : STICK_M;
  }

  #updateTrails(frame) {
    this.trail.visible = this.trails;
    if (!this.trails) return;
    const { times, people } = this.pose;
    const writer = { positions: this.trail.geometry.attributes.position.array,
      colors: this.trail.geometry.attributes.color.array, count: 0 };
    people.forEach((person, index) => {
      if (this.hidden.has(person.id)) return;
      const rows = Array.from({ length: TRAIL_POINTS + 1 }, (_, i) => {
        const seconds = times[frame] - (i / TRAIL_POINTS) * TRAIL_S;
        return seconds < times[0] ? -1 : rowOf(person, frameAt(times, seconds));
      });
      for (const leaf of this.leaves) {
        const color = this.colors[index][sideOf(this.pose.joints[leaf])];
        for (let i = 0; i < TRAIL_POINTS; i++) {
          if (rows[i] < 0 || rows[i + 1] < 0) continue;
          const known = jointInto(start, person, rows[i], leaf) && jointInto(end, person, rows[i + 1], leaf);
          if (known) addSegment(writer, color, this.background, i / TRAIL_POINTS);
        }
      }
    });
    this.trail.geometry.setDrawRange(0, writer.count * 2);
    this.trail.geometry.attributes.position.needsUpdate = true;
    this.trail.geometry.attributes.color.needsUpdate = true;
  }
}

const start = new Vector3();
const end = new Vector3();
const along = new Vector3();
const across = new Vector3();
const third = new Vector3();
const matrix = new Matrix4();
const faded = new Color();

const sideOf = (joint) => (joint.startsWith("left_") ? "left" : joint.startsWith("right_") ? "right" : "core");

/** A growing list of cylinders and spheres in one material. */
class Instances {
  constructor(bones, material) {
    this.bones = new InstancedMesh(new CylinderGeometry(1, 1, 1, 14, 1, true), material, Math.max(1, bones));
    this.balls = new InstancedMesh(new IcosahedronGeometry(1, 2), material, Math.max(1, bones * 2));
    this.group = new Group();
    for (const mesh of [this.bones, this.balls]) {
      mesh.instanceMatrix.setUsage(DynamicDrawUsage);
      mesh.frustumCulled = false;
      this.group.add(mesh);
    }
    this.material = material;
  }

  /** One colour for all, instead of that of each. */
  setMaterialColor(color) {
    this.plain = true;
    this.material.color.set(color);
  }

  begin() {
    this.bones.count = this.balls.count = 0;
  }

  end() {
    for (const mesh of [this.bones, this.balls]) {
      mesh.instanceMatrix.needsUpdate = true;
      if (mesh.instanceColor) mesh.instanceColor.needsUpdate = true;
      mesh.visible = mesh.count > 0;
    }
  }

  addBall(center, radius, color) {
    matrix.makeScale(radius, radius, radius).setPosition(center);
    this.#add(this.balls, color);
  }

  addBone(from, to, radius, color) {
    along.subVectors(to, from);
    if (along.lengthSq() < 1e-10) return; // a bone without length has no direction
    across.set(0, 0, 1);
    if (Math.abs(along.z) > 0.9 * along.length()) across.set(1, 0, 0);
    third.crossVectors(along, across).setLength(radius);
    across.crossVectors(third, along).setLength(radius);
    matrix.makeBasis(third, along, across).setPosition(center(from, to));
    this.#add(this.bones, color);
  }

  #add(mesh, color) {
    mesh.setMatrixAt(mesh.count, matrix);
    if (!this.plain) mesh.setColorAt(mesh.count, color);
    mesh.count += 1;
  }
}

const middle = new Vector3();
const center = (a, b) => middle.addVectors(a, b).multiplyScalar(0.5);

function makeTrail(segments) {
  const geometry = new BufferGeometry();
  for (const name of ["position", "color"]) {
    const values = new Float32BufferAttribute(new Float32Array(Math.max(1, segments) * 6), 3);
    geometry.setAttribute(name, values.setUsage(DynamicDrawUsage));
  }
  const trail = new LineSegments(geometry, new LineBasicMaterial({ vertexColors: true }));
  trail.frustumCulled = false;
  return trail;
}

function addSegment(writer, color, background, age) {
  const at = writer.count * 6;
  start.toArray(writer.positions, at);
  end.toArray(writer.positions, at + 3);
  faded.copy(color).lerp(background, 0.15 + 0.85 * age);
  faded.toArray(writer.colors, at);
  faded.toArray(writer.colors, at + 3);
  writer.count += 1;
}
