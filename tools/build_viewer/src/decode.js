// Unpack the motion that vp3d_cli/render/viewer/encode.py packed; the byte layout is described there.

const VERSION = 1;
export const MISSING = 0;
export const NOT_SEEN = 1;
export const SEEN = 2;

/** Decode the page's data: `{times, people: [{id, name, first, frames, joints, states, colors}], ...}`.
 *  `joints` is a Float32Array (frames, J, 3) in metres, world space; `states` a Uint8Array (frames, J). */
export async function decodePose(packed) {
  if (packed.version !== VERSION) throw new Error(`this page holds data of version ${packed.version}`);
  const bytes = await inflate(fromBase64(packed.data));
  const reader = { bytes, at: 0 };
  const times = new Float64Array(bytes.slice(0, packed.frames * 8).buffer);
  reader.at = packed.frames * 8;
  const people = packed.people.map((person) => decodePerson(reader, person, packed.joints.length, rootOf(packed)));
  return { ...packed, data: null, times, people };
}

export const rootOf = ({ parents }) => Math.max(0, parents.indexOf(-1));

function decodePerson(reader, person, jointCount, rootJoint) {
  const { frames, step } = person;
  const states = reader.bytes.slice(reader.at, reader.at + frames * jointCount);
  reader.at += frames * jointCount;
  const root = integrate(reader, 3, frames, 4);
  const offsets = integrate(reader, jointCount * 3, frames, 2);
  const joints = new Float32Array(frames * jointCount * 3);
  for (let channel = 0; channel < jointCount * 3; channel++) {
    const axis = channel % 3;
    for (let frame = 0; frame < frames; frame++) {
      const steps = root[axis * frames + frame] + offsets[channel * frames + frame];
      joints[frame * jointCount * 3 + channel] = steps * step;
    }
  }
  return { ...person, states, joints, rootJoint, jointCount };
}

/** Sum up differences stored as byte planes: (channels, frames) signed integers of `width` bytes. */
function integrate(reader, channels, frames, width) {
  const count = channels * frames;
  const { bytes, at } = reader;
  reader.at += count * width;
  const values = width === 2 ? new Int16Array(count) : new Int32Array(count);
  for (let i = 0; i < count; i++) {
    let difference = 0;
    for (let plane = 0; plane < width; plane++) difference |= bytes[at + plane * count + i] << (8 * plane);
    // Storing into the typed array takes the sum modulo its range, as the encoder did.
    values[i] = difference + (i % frames === 0 ? 0 : values[i - 1]);
  }
  return values;
}

function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser is too old for the page; use one of 2023 or later");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
