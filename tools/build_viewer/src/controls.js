// Buttons, keys and the list of people. Everything that a person can press is named once, in COMMANDS.

import { SPEEDS } from "./player.js";

/** name: [key, what it does]; a button with data-command="name" does the same. */
const COMMANDS = {
  play: [" ", (viewer) => viewer.player.toggle()],
  back: ["ArrowLeft", (viewer) => viewer.player.step(-1)],
  forward: ["ArrowRight", (viewer) => viewer.player.step(1)],
  backSecond: ["Shift+ArrowLeft", (viewer) => viewer.player.skip(-1)],
  forwardSecond: ["Shift+ArrowRight", (viewer) => viewer.player.skip(1)],
  first: ["Home", (viewer) => viewer.player.seek(0)],
  last: ["End", (viewer) => viewer.player.seek(Infinity)],
  slower: ["-", (viewer) => changeSpeed(viewer, -1)],
  faster: ["+", (viewer) => changeSpeed(viewer, 1)],
  loop: ["l", (viewer) => (viewer.player.loop = !viewer.player.loop)],
  body: ["b", (viewer) => (viewer.bodies.capsules = !viewer.bodies.capsules)],
  trails: ["t", (viewer) => (viewer.bodies.trails = !viewer.bodies.trails)],
  floor: ["g", (viewer) => (viewer.stage.grid.visible = !viewer.stage.grid.visible)],
  camera: ["c", (viewer) => (viewer.stage.frustum.visible = !viewer.stage.frustum.visible)],
  video: ["v", (viewer) => toggleVideo(viewer)],
  follow: ["f", (viewer) => followNext(viewer)],
  reset: ["r", (viewer) => viewer.stage.resetView()],
  filming: ["p", (viewer) => viewer.stage.filmingView()],
  curve: ["k", (viewer) => nextCurve(viewer)],
  theme: ["d", (viewer) => toggleTheme(viewer)],
  help: ["?", (viewer) => toggleHelp(viewer)],
};
const PRESSED = {
  play: (viewer) => viewer.player.playing,
  loop: (viewer) => viewer.player.loop,
  body: (viewer) => viewer.bodies.capsules,
  trails: (viewer) => viewer.bodies.trails,
  floor: (viewer) => viewer.stage.grid.visible,
  camera: (viewer) => viewer.stage.frustum.visible,
  video: (viewer) => !viewer.root.querySelector(".vp3d-footage")?.hidden,
  follow: (viewer) => viewer.stage.follow !== null,
};

export function connectControls(viewer) {
  const { root } = viewer;
  const run = (name) => {
    COMMANDS[name][1](viewer);
    viewer.changed();
  };
  for (const button of root.querySelectorAll("[data-command]")) {
    button.addEventListener("click", () => run(button.dataset.command));
  }
  connectKeys(viewer, run);
  fillCurves(viewer);
  fillPeople(viewer);
  const speed = root.querySelector(".vp3d-speed");
  speed.append(...SPEEDS.map((value) => new Option(`${value}\u00d7`, String(value), false, value === 1)));
  speed.addEventListener("change", () => viewer.player.setSpeed(Number(speed.value)));
  root.querySelector(".vp3d-timeline").setAttribute("aria-valuemax", String(viewer.pose.times.length - 1));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => viewer.applyTheme());
  viewer.showState = () => showState(viewer);
  viewer.showFrame = (frame) => showFrame(viewer, frame);
}

/** On a page of its own the viewer hears all keys, within a report those pressed while it has the focus. */
function connectKeys(viewer, run) {
  const listener = "page" in viewer.root.dataset ? document : viewer.root;
  const names = new Map(Object.entries(COMMANDS).map(([name, [key]]) => [key, name]));
  names.set("=", "faster"); // the key of + without Shift
  listener.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
    if (event.key === " " && event.target.matches("button")) return; // it presses the button already
    if (event.key === "Escape") viewer.root.querySelector(".vp3d-help").hidden = true;
    const arrow = event.shiftKey && event.key.startsWith("Arrow");
    const name = names.get(arrow ? `Shift+${event.key}` : event.key.length === 1 ? event.key.toLowerCase() : event.key);
    const person = viewer.pose.people[Number(event.key) - 1];
    if (name) run(name);
    else if (person) viewer.setVisible(person.id, viewer.bodies.hidden.has(person.id));
    else return;
    event.preventDefault();
  });
}

function fillCurves(viewer) {
  const select = viewer.root.querySelector(".vp3d-curve");
  select.append(...viewer.quantities.map(({ name }, index) => new Option(name, String(index))));
  select.addEventListener("change", () => {
    viewer.timeline.choose(Number(select.value));
    viewer.changed();
  });
}

function fillPeople(viewer) {
  const list = viewer.root.querySelector(".vp3d-people");
  for (const person of viewer.pose.people) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => viewer.setVisible(person.id, box.checked));
    const swatch = document.createElement("i");
    swatch.style.background = `linear-gradient(90deg, ${person.colors.left} 50%, ${person.colors.right} 50%)`;
    const name = document.createElement("span");
    name.textContent = person.name;
    const value = document.createElement("output");
    const label = document.createElement("label");
    label.dataset.person = String(person.id);
    label.append(box, swatch, name, value);
    list.append(label);
  }
}

function showState(viewer) {
  const { root, player, stage, bodies } = viewer;
  for (const button of root.querySelectorAll("[data-command]")) {
    const pressed = PRESSED[button.dataset.command];
    if (pressed) button.setAttribute("aria-pressed", String(Boolean(pressed(viewer))));
  }
  root.querySelector(".vp3d-speed").value = String(player.speed);
  root.querySelector(".vp3d-curve").value = String(viewer.timeline.chosen);
  for (const label of root.querySelectorAll("[data-person]")) {
    const id = Number(label.dataset.person);
    label.querySelector("input").checked = !bodies.hidden.has(id);
    label.classList.toggle("vp3d-followed", stage.follow === id);
  }
  showFrame(viewer, player.frame);
}

function showFrame(viewer, frame) {
  const { root, pose, timeline } = viewer;
  const seconds = pose.times[frame];
  root.querySelector(".vp3d-clock").textContent = `${clock(seconds)}  frame ${frame} / ${pose.times.length - 1}`;
  const { unit } = viewer.quantities[timeline.chosen];
  for (const person of pose.people) {
    const value = timeline.valuesOf(person)[frame - person.first];
    const output = root.querySelector(`[data-person="${person.id}"] output`);
    output.textContent = Number.isFinite(value) ? `${value.toFixed(unit.startsWith("m") ? 2 : 0)} ${unit}` : "\u2013";
  }
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

function changeSpeed(viewer, by) {
  const at = SPEEDS.indexOf(viewer.player.speed) + by;
  viewer.player.setSpeed(SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at))]);
}

function followNext(viewer) {
  const ids = viewer.pose.people.map(({ id }) => id).filter((id) => !viewer.bodies.hidden.has(id));
  viewer.stage.setFollow(ids[ids.indexOf(viewer.stage.follow) + 1] ?? null);
}

function nextCurve(viewer) {
  viewer.timeline.choose((viewer.timeline.chosen + 1) % viewer.quantities.length);
}

function toggleVideo(viewer) {
  const footage = viewer.root.querySelector(".vp3d-footage");
  if (!footage) return;
  footage.hidden = !footage.hidden;
  viewer.resize();
}

function toggleHelp({ root }) {
  const help = root.querySelector(".vp3d-help");
  help.hidden = !help.hidden;
}

function toggleTheme(viewer) {
  const page = document.documentElement;
  const dark = page.dataset.theme
    ? page.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  page.dataset.theme = dark ? "light" : "dark";
  viewer.applyTheme();
}
