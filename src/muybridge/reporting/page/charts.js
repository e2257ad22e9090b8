// Draws the charts in the page's font, each as wide as its place, and lets a click on a model make the others fade.
const SIZE = 13;  // pixels of all text, as charts/style.py has it
const LABELS = 150;  // most pixels of a class's name
const TALL = 900;
const WIDEST = 1.6;  // times a chart's own width
const SYMBOL = 34;  // pixels of a legend's symbol and the gaps beside it
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

// A part of a chart with titles in lines and legends in columns that fit. `sides`: pixels of the drawing, of what is beside
// its plot, and of its height, which is the room for titles that stand upright.
function fitted(part, sides, isUpright = false) {
  if (Array.isArray(part)) return part.map(one => fitted(one, sides, isUpright));
  if (!part || typeof part !== "object") return part;
  const plot = sides.width - sides.beside;
  const names = part.legend && (part.legend.values ?? part.scale?.domain);
  return Object.fromEntries(Object.entries(part).map(([name, value]) => {
    if (["data", "datasets", "params", "tooltip", "scale", "config"].includes(name)) return [name, value];
    if (["title", "subtitle"].includes(name) && typeof value === "string") {
      return [name, inLines(value, isUpright ? sides.height : plot)];
    }
    if (name === "labelLimit") return [name, Math.min(value, sides.labels)];
    if (name === "legend" && names) {
      const column = Math.max(...names.map(one => widthOf(String(one)))) + SYMBOL;
      const columns = Math.max(1, Math.min(names.length, Math.floor(plot / column)));
      return [name, { ...fitted(value, sides), labelLimit: plot - SYMBOL, columns }];
    }
    return [name, fitted(value, sides, name === "y" || (isUpright && name !== "x"))];
  }));
}

// Pixels left of the plot: the longest names of rows, or numbers and a title.
function besideOf(part, labels) {
  const layers = part.layer ?? [part];
  const limits = layers.map(one => one.encoding?.y?.axis?.labelLimit).filter(Boolean);
  return limits.length ? Math.min(labels, ...limits) + 30 : 70;
}

// Widths of the legends of a chart, were each a single row.
function legends(part, found = new Map()) {
  if (Array.isArray(part)) for (const one of part) legends(one, found);
  else if (part && typeof part === "object") {
    const names = part.legend && (part.legend.values ?? part.scale?.domain);
    if (names) {
      const widths = names.map(one => widthOf(String(one)) + SYMBOL);
      found.set(JSON.stringify([part.legend.title, names]), Math.max(...widths) * Math.min(names.length, 3));
    }
    for (const [name, value] of Object.entries(part)) if (!["data", "datasets"].includes(name)) legends(value, found);
  }
  return found;
}

// Pixels beside the cells of a matrix.
function labelsOf(wide, limit) {
  return Math.min(limit, Math.max(...wide.layer[0].encoding.y.scale.domain.map(widthOf))) + 40;
}

// A matrix with square cells: as large as there is room for, without counts where they have none.
function matrix(wide, room, labels) {
  const { cells, digits } = wide.usermeta;
  const step = Math.min(wide.width / cells, (room - labelsOf(wide, labels)) / cells);
  const axis = step < SIZE + 2 ? { labelOverlap: true, labelAngle: -90 } : {};
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
  const cells = wide.usermeta?.cells;
  figure.classList.toggle("whole", Boolean(cells) && wide.width + labelsOf(wide, LABELS) > figure.clientWidth);
  const room = figure.clientWidth;
  const labels = Math.min(LABELS, 0.38 * room);
  const width = cells ? room : Math.min(room, WIDEST * wide.width);
  const sides = { width, labels, beside: cells ? 70 : besideOf(wide, labels), height: wide.height };
  const spec = fitted(cells ? matrix(wide, room, labels) : wide, sides);
  const together = [...legends(wide).values()].reduce((sum, one) => sum + one + 20, 0);
  const direction = together > width - sides.beside ? "vertical" : "horizontal";
  spec.config = {
    ...spec.config, font,
    legend: { ...spec.config.legend, layout: { bottom: { direction } } },
    title: { ...spec.config.title, limit: width - 12 },
  };
  if (!cells) Object.assign(spec, { width, autosize: { type: "fit-x", contains: "padding" } });
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
  for (const text of box.querySelectorAll(":is(.role-axis-label, .role-legend-label) text")) {  // the whole of a name that was shortened
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

  let drawn = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    if (innerWidth === drawn) return;  // a phone's bars come and go
    waiting = setTimeout(async () => {
      drawn = innerWidth;
      for (const index of charts.keys()) await draw(index);
    }, 250);
  });
}
document.body.dataset.ready = "yes";
