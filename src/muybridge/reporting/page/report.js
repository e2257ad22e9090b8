// Draws the charts, as wide as there is room, and lets a click on a model make the others fade.
const views = [];
const status = document.querySelector("#isolated");
let isolated = "";

function isolate(model) {
  isolated = model === isolated ? "" : model;
  for (const view of views) view.signal("isolated", isolated).runAsync();
  for (const button of document.querySelectorAll(".key button")) {
    button.setAttribute("aria-pressed", String(button.dataset.model === isolated));
  }
  status.hidden = !isolated;
  status.querySelector("b").textContent = isolated;
  document.body.dataset.isolated = isolated;
}

for (const button of document.querySelectorAll(".key button")) {
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => isolate(button.dataset.model));
}
status.querySelector("button").addEventListener("click", () => isolate(isolated));
addEventListener("keydown", event => { if (event.key === "Escape" && isolated) isolate(isolated); });

// On a telephone: long titles in lines, legends below one another.
const LETTER = 6.5;  // pixels, on the average
function inLines(text, room) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && longer.length * LETTER > room) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.length > 1 ? lines : text;
}
function narrowed(part, room) {
  if (Array.isArray(part)) return part.map(one => narrowed(one, room));
  if (!part || typeof part !== "object") return part;
  return Object.fromEntries(Object.entries(part).map(([name, value]) => {
    if (name === "title" && typeof value === "string") return [name, inLines(value, room)];
    if (name === "columns" && typeof value === "number") return [name, Math.min(value, 2)];
    return [name, name === "data" || name === "datasets" ? value : narrowed(value, room)];
  }));
}

for (const [index, wide] of charts.entries()) {
  const box = document.querySelector("#chart" + index);
  box.classList.toggle("fixed", Boolean(wide.usermeta?.fixed));
  const room = box.closest(".charts").clientWidth;
  const spec = room < 480 ? narrowed(wide, room - 90) : wide;
  if (room < 480) spec.config.legend = { ...spec.config.legend, layout: { bottom: { direction: "vertical" } } };
  if (typeof spec.width === "number" && spec.width + 130 > room && !box.classList.contains("fixed")) {
    spec.width = room;
    spec.autosize = { type: "fit-x", contains: "padding" };
  }
  const { view } = await vegaEmbed(box, spec, { actions: false, renderer: "svg", tooltip: { theme: "custom" } });
  if (spec.params?.some(param => param.name === "isolated")) {
    views.push(view);
    view.addEventListener("click", (event, item) => {
      const model = item?.datum?.model;
      if (model && !model.startsWith("published: ")) isolate(model);
    });
  }
}
document.body.dataset.ready = "yes";
