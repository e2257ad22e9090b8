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

for (const [index, spec] of charts.entries()) {
  const box = document.querySelector("#chart" + index);
  box.classList.toggle("fixed", Boolean(spec.usermeta?.fixed));
  const room = box.closest(".charts").clientWidth;
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
