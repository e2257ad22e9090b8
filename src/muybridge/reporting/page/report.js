// The page around the charts: contents, tables that sort and filter, strips that play, commands to copy, paper.
document.documentElement.classList.add("js");

function made(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// --- contents: the section in view is marked; on a phone a bar names it and opens the list
const contents = document.querySelector("#contents");
const opener = contents.querySelector("button");
const links = [...contents.querySelectorAll("a")];
const targets = links.map(link => document.getElementById(decodeURIComponent(link.hash.slice(1))));

function open(isOpen) {
  contents.classList.toggle("open", isOpen);
  opener.setAttribute("aria-expanded", String(isOpen));
}
opener.addEventListener("click", () => open(!contents.classList.contains("open")));
contents.addEventListener("click", event => { if (event.target.closest("a")) open(false); });
addEventListener("keydown", event => { if (event.key === "Escape") open(false); });

let marked;
function mark() {
  const line = innerHeight / 4;
  const atEnd = scrollY > 0 && scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
  const passed = targets.filter(target => target.getBoundingClientRect().top <= line);
  const link = links[atEnd ? links.length - 1 : Math.max(0, passed.length - 1)];
  if (link === marked) return;
  marked?.removeAttribute("aria-current");
  marked = link;
  marked.setAttribute("aria-current", "true");
  opener.querySelector("span").textContent = marked.textContent;
  const list = contents.querySelector("div");
  list.scrollTop = Math.max(0, marked.offsetTop - list.clientHeight / 2);
}
let isMarking = false;
addEventListener("scroll", () => {
  if (isMarking) return;
  isMarking = true;
  requestAnimationFrame(() => { isMarking = false; mark(); });
}, { passive: true });
mark();

// --- tables: sorted by a click on a heading, filtered by words; the last rows that are set apart stay where they are
const FEW_ROWS = 8;
const SHOWN_ROWS = 15;
const UNITS = {
  "%": 0.01, k: 1e3, M: 1e6, G: 1e9, T: 1e12, B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, ms: 1e-3, s: 1, min: 60, h: 3600,
  days: 86400,
};
const NUMBER = /^([<>]?)\s*([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?:\s*(%|[A-Za-z]+))?(?:\s*\[.*\])?$/;
const collator = new Intl.Collator("en", { numeric: true });

// A number with its unit and without its interval; undefined for words, and for a dash.
function valueOf(text) {
  const [, side, digits, unit] = NUMBER.exec(text.trim().replaceAll("−", "-").replaceAll("\u00a0", " ")) ?? [];
  if (digits === undefined || (unit && !(unit in UNITS))) return undefined;
  const value = Number(digits.replaceAll(",", "")) * (UNITS[unit] ?? 1);
  return value + ({ "<": -1, ">": 1 }[side] ?? 0) * 1e-9;
}

function furnish(table) {
  const body = table.tBodies[0];
  const every = [...body.rows];
  const foot = every.filter(row => row.classList.contains("foot"));
  const original = every.filter(row => !row.classList.contains("foot"));
  if (original.length <= FEW_ROWS) return;
  const headings = [...table.tHead.rows[0].cells];
  const cell = (row, column) => row.cells[column].textContent.trim();
  const width = table.offsetWidth;
  let sorted = { column: -1, order: "none" };
  let showsAll = original.length <= SHOWN_ROWS + 5;

  const box = made("input", { type: "search", placeholder: "Filter rows", autocomplete: "off" });
  box.setAttribute("aria-label", "Filter the rows of this table");
  const count = made("span", { className: "count" });
  count.setAttribute("role", "status");
  const more = made("button", { type: "button", className: "more" });

  function arranged() {
    const { column, order } = sorted;
    if (order === "none") return original;
    const values = new Map(original.map(row => [row, valueOf(cell(row, column))]));
    const isDash = row => ["–", ""].includes(cell(row, column));
    const isNumbers = original.every(row => isDash(row) || values.get(row) !== undefined);
    const sign = order === "ascending" ? 1 : -1;
    return [...original].sort((a, b) => {
      if (isDash(a) || isDash(b)) return isDash(a) - isDash(b);
      return sign * (isNumbers ? values.get(a) - values.get(b) : collator.compare(cell(a, column), cell(b, column)));
    });
  }
  function show() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = arranged();
    const fitting = rows.filter(row => words.every(word => row.textContent.toLowerCase().includes(word)));
    const shown = new Set(showsAll ? fitting : fitting.slice(0, SHOWN_ROWS));
    for (const row of rows) row.hidden = !shown.has(row);
    body.append(...rows, ...foot);
    const ofAll = `${fitting.length} of ${original.length} rows`;
    table.style.minWidth = words.length ? `${width}px` : "";
    count.textContent = words.length ? ofAll : `${original.length} rows`;
    more.hidden = fitting.length <= SHOWN_ROWS + 5;
    more.textContent = showsAll ? `Show ${SHOWN_ROWS} rows` : `Show all ${fitting.length} rows`;
  }
  headings.forEach((heading, column) => {
    const button = made("button", { type: "button", title: "Sort" }, ...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const isNumber = original.some(row => valueOf(cell(row, column)) !== undefined);
      const orders = isNumber ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      const before = sorted.column === column ? orders.indexOf(sorted.order) : -1;
      sorted = { column, order: orders[(before + 1) % orders.length] };
      for (const one of headings) one.setAttribute("aria-sort", one === heading ? sorted.order : "none");
      show();
    });
  });
  box.addEventListener("input", show);
  more.addEventListener("click", () => { showsAll = !showsAll; show(); });
  const scroll = table.closest(".scroll");
  scroll.before(made("div", { className: "tools" }, box, count));
  scroll.after(more);
  show();
}
document.querySelectorAll("table").forEach(furnish);

// --- strips: a frame beside the strip plays it, while a pointer is on it or once it is pressed
const GAP = 2;  // pixels between the frames of a strip
const LEAST_HEIGHT = 112;

async function play(box) {
  const image = box.querySelector("img");
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  const count = Number(box.dataset.frames);
  const step = (width + GAP) / count;
  const zoom = Math.max(1, LEAST_HEIGHT / height);
  const player = made("button", { type: "button", className: "player", title: "Play" });
  player.setAttribute("aria-pressed", "false");
  player.setAttribute("aria-label", "Play these frames");
  player.style.width = `${(step - GAP) * zoom}px`;
  player.style.height = `${height * zoom}px`;
  player.style.backgroundImage = `url("${image.src}")`;
  player.style.backgroundSize = `${width * zoom}px ${height * zoom}px`;
  player.style.setProperty("--frames", count);
  player.style.setProperty("--end", `${-step * count * zoom}px`);
  player.addEventListener("click", () => {
    player.setAttribute("aria-pressed", String(player.getAttribute("aria-pressed") === "false"));
  });
  box.before(player);
}
for (const box of document.querySelectorAll(".frames[data-frames]")) play(box).catch(() => {});  // a strip that cannot be read

// --- commands
for (const command of document.querySelectorAll("pre.command")) {
  const text = command.textContent;
  const button = made("button", { type: "button", className: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(command.querySelector("code"));
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  command.replaceChildren(made("code", {}, text), button);
}

// --- paper: what is folded is printed
const folded = [];
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) { one.open = true; folded.push(one); }
});
addEventListener("afterprint", () => { for (const one of folded.splice(0)) one.open = false; });
