// Light or dark, by the system or by the choice on this page, and figures in matching colours.
const root = document.documentElement;
const theme = () => localStorage.getItem("theme")
  || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

const narrow = matchMedia("(max-width: 40rem)"); // as in dashboard.css
const ON_A_PHONE = { height: 340, margin: { l: 50, r: 8, t: 8, b: 130 }, // the legend below the axis
  legend: { orientation: "h", yref: "container", yanchor: "bottom", y: 0, font: { size: 10 } } };

// On a phone all sections but the first are folded, except those with a form.
function fold() {
  const sections = [...document.querySelectorAll("#content > section")].slice(1);
  for (const section of sections.filter((one) => narrow.matches && !one.querySelector("form, .decision, [id]"))) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.append(section.querySelector("h2"));
    details.append(summary, ...section.childNodes);
    details.addEventListener("toggle", draw);
    section.append(details);
  }
}

function show(wanted) {
  root.dataset.bsTheme = wanted;
  const button = document.getElementById("theme");
  if (button) button.textContent = wanted === "dark" ? "Light" : "Dark";
  draw();
}

function draw() {
  if (!window.Plotly) return;
  const style = getComputedStyle(document.body);
  const [ink, grid] = [style.color, style.getPropertyValue("--bs-border-color")];
  for (const place of document.querySelectorAll("[data-figure]")) {
    const { data, layout } = JSON.parse(place.dataset.figure);
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid };
    const axes = Object.fromEntries(Object.entries(layout).filter(([name]) => /^[xy]axis/.test(name))
      .map(([name, value]) => [name, { ...axis, ...value, title: { ...value.title, standoff: 10 } }]));
    const fitted = narrow.matches ? { ...layout, ...axes, ...ON_A_PHONE } : { ...layout, ...axes };
    Plotly.react(place, data, { ...fitted, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink } }, { responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : "hover" });
  }
}

root.dataset.bsTheme = theme();
addEventListener("DOMContentLoaded", () => {
  for (const form of document.querySelectorAll("form:not([action])")) form.action = "?"; // Shiny submits only forms with an action
  fold();
  show(theme());
  document.getElementById("theme").addEventListener("click", () => {
    const wanted = root.dataset.bsTheme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", wanted);
    show(wanted);
  });
  for (const button of document.querySelectorAll("[data-choose-all]")) {
    const boxes = [...button.form.querySelectorAll("input[type=checkbox]:not(:disabled)")];
    button.addEventListener("click", () => {
      const chosen = !boxes.every((box) => box.checked);
      for (const box of boxes) box.checked = chosen;
    });
  }
  const again = document.querySelector("[data-again]");
  if (again) setTimeout(() => location.reload(), Number(again.dataset.again));
  new MutationObserver(draw).observe(document.getElementById("content"), { childList: true, subtree: false });
});
// After a decision, its outcome replaces the description of the previous state.
async function showDecided() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const after = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of ["#content > h1", "#content .lead", "#content dl"]) {
    const now = after.querySelector(part);
    if (now) document.querySelector(part)?.replaceWith(now);
  }
  document.title = after.title;
}

// Scroll to a new question or outcome of the decision form, and give it the keyboard focus.
new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach((node) => {
  const said = node.matches?.("[data-seen]") ? node : node.querySelector?.("[data-seen]");
  if (!said) return;
  said.scrollIntoView({ block: "center" });
  said.querySelector("button")?.focus({ preventScroll: true });
  if (said.matches(".decided")) showDecided();
}))).observe(root, { childList: true, subtree: true });
addEventListener("load", draw);
