// Draws the charts in the page's font, each as wide as its place, and lets a click on a model make the others fade.
const SIZE = 13;  // pixels of all text, as charts/style.py has it
const NARROW = 480;
const TALL = 900;
const WIDEST = 1.6;  // times a chart's own width
const views = new Map();
let isolated = "";

const font = getComputedStyle(document.body).fontFamily;
const pen = document.createElement("canvas").getContext("2d");
function widthOf(text) {
  pen.font = `${SIZE}px ${font}`;
  return pen.measureText(text).width;
}

function isolate(model) {
  const status = document.querySelector("#isolated");
  isolated = model === isolated ? "" : model;
  for (const view of views.values()) if (view.hasIsolated) view.signal("isolated", isolated).runAsync();
  for (const button of document.querySelectorAll(".key button")) {
    button.setAttribute("aria-pressed", String(button.dataset.model === isolated));
  }
  status.hidden = !isolated;
  status.querySelector("b").textContent = isolated;
  document.body.dataset.isolated = isolated;
}

function inLines(text, room) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && widthOf(longer) > room) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.length > 1 ? lines : text;
}

// A part of a chart with titles in lines and legends in columns that fit. Titles of y stand upright: theirs is the height.
function fitted(part, room, height, isUpright = false) {
  if (Array.isArray(part)) return part.map(one => fitted(one, room, height, isUpright));
  if (!part || typeof part !== "object") return part;
  const names = part.legend && (part.legend.values ?? part.scale?.domain);
  return Object.fromEntries(Object.entries(part).map(([name, value]) => {
    if (["data", "datasets", "params", "tooltip", "scale"].includes(name)) return [name, value];
    if (["title", "subtitle"].includes(name) && typeof value === "string") {
      return [name, inLines(value, isUpright ? height : room - 70)];
    }
    if (name === "legend" && names) {
      const column = Math.max(...names.map(one => widthOf(String(one)))) + 34;
      return [name, {
        ...fitted(value, room, height), labelLimit: room - 34,
        columns: Math.max(1, Math.min(names.length, Math.floor(room / column))),
      }];
    }
    return [name, fitted(value, room, height, name === "y" || (isUpright && name !== "x"))];
  }));
}

// Widths of the legends of a chart, were each a single row.
function legends(part, found = new Map()) {
  if (Array.isArray(part)) for (const one of part) legends(one, found);
  else if (part && typeof part === "object") {
    const names = part.legend && (part.legend.values ?? part.scale?.domain);
    if (names) {
      const widths = names.map(one => widthOf(String(one)) + 34);
      found.set(JSON.stringify([part.legend.title, names]), Math.max(...widths) * Math.min(names.length, 3));
    }
    for (const [name, value] of Object.entries(part)) if (!["data", "datasets"].includes(name)) legends(value, found);
  }
  return found;
}

// A matrix with square cells: as large as there is room for, without counts where they have none.
function matrix(wide, room) {
  const { cells, digits } = wide.usermeta;
  const names = wide.layer[0].encoding.y.scale.domain;
  const limit = room < NARROW ? 84 : 150;
  const longest = Math.max(...names.map(widthOf));
  const step = Math.min(wide.width / cells, (room - Math.min(limit, longest) - 40) / cells);
  const axis = { labelLimit: limit, ...step < SIZE + 2 ? { labelOverlap: true, labelAngle: -90 } : {} };
  const layer = wide.layer
    .filter(one => one.name !== "counts" || step > 8 * digits)
    .map(one => ({ ...one, encoding: {
      ...one.encoding,
      x: { ...one.encoding.x, axis: { ...one.encoding.x.axis, ...axis } },
      y: { ...one.encoding.y, axis: { ...one.encoding.y.axis, ...axis, labelAngle: 0 } },
    } }));
  return { ...wide, layer, width: step * cells, height: step * cells };
}

function specOf(wide, figure) {
  figure.classList.remove("whole");
  const cells = wide.usermeta?.cells;
  if (cells && wide.width + 190 > figure.clientWidth) figure.classList.add("whole");
  const room = figure.clientWidth;
  const spec = fitted(cells ? matrix(wide, room) : wide, room, wide.height);
  const width = [...legends(wide).values()].reduce((sum, one) => sum + one + 20, 0);
  spec.config = {
    ...spec.config, font,
    legend: { ...spec.config.legend, layout: { bottom: { direction: width > room ? "vertical" : "horizontal" } } },
    title: { ...spec.config.title, limit: room },
  };
  if (!cells) Object.assign(spec, { width: Math.min(room, WIDEST * wide.width), autosize: { type: "fit-x", contains: "padding" } });
  return spec;
}

async function draw(index) {
  const box = document.querySelector(`#chart${index}`);
  const figure = box.parentElement;
  const spec = specOf(charts[index], figure);
  views.get(index)?.finalize();
  const { view } = await vegaEmbed(box, spec, {
    actions: false, renderer: "svg", ast: true, defaultStyle: false, tooltip: { theme: "custom", disableDefaultStyle: true },
  });
  views.set(index, view);
  view.hasIsolated = spec.params?.some(param => param.name === "isolated") ?? false;
  if (view.hasIsolated) {
    if (isolated) view.signal("isolated", isolated).runAsync();
    view.addEventListener("click", (event, item) => {
      const model = item?.datum?.model;
      if (model && !model.startsWith("published: ")) isolate(model);
    });
  }
  for (const text of box.querySelectorAll(".role-axis-label text")) {  // the whole of a name that was shortened
    const whole = text.__data__?.datum?.value;
    if (text.textContent.endsWith("…") && whole) {
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = whole;
      text.append(title);
    }
  }
  if (box.scrollHeight > TALL && !figure.querySelector(".more")) {
    box.classList.add("tall");
    const more = made("button", { type: "button", className: "more" }, "Show the whole chart");
    more.addEventListener("click", () => {
      more.textContent = box.classList.toggle("tall") ? "Show the whole chart" : "Show less";
    });
    figure.append(more);
  }
}

if (charts.length) {
  for (const button of document.querySelectorAll(".key button")) {
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => isolate(button.dataset.model));
  }
  document.querySelector("#isolated button").addEventListener("click", () => isolate(isolated));
  addEventListener("keydown", event => { if (event.key === "Escape" && isolated) isolate(isolated); });
  for (const index of charts.keys()) await draw(index);

  let width = document.querySelector("main").clientWidth;
  let waiting;
  new ResizeObserver(([entry]) => {
    clearTimeout(waiting);
    if (Math.abs(entry.contentRect.width - width) < 2) return;
    waiting = setTimeout(async () => {
      width = entry.contentRect.width;
      for (const index of charts.keys()) await draw(index);
    }, 250);
  }).observe(document.querySelector("main"));
}
document.body.dataset.ready = "yes";
