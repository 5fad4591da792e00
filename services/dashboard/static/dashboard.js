// Light or dark, by the system or by the choice on this page, and figures in matching colours.
const root = document.documentElement;
const theme = () => localStorage.getItem("theme")
  || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

const narrow = matchMedia("(max-width: 40rem)"); // as in dashboard.css
const ON_A_PHONE = { height: 340, margin: { l: 50, r: 8, t: 8, b: 130 }, // the legend below the axis
  legend: { orientation: "h", yref: "container", yanchor: "bottom", y: 0, font: { size: 10 } } };

const AT_A_GLANCE = { height: 200, margin: { l: 45, r: 8, t: 8, b: 32 }, legend: { orientation: "h", y: 1.2, x: 0 } };

// On a phone all sections but the first are folded, except those with a form.
function fold() {
  const sections = [...document.querySelectorAll("#content section")].slice(1);
  for (const section of sections.filter((one) => one.parentElement.id === "content" && narrow.matches && !one.querySelector("form, .decision, [id]"))) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.append(section.querySelector("h2"));
    details.append(summary, ...section.childNodes);
    details.addEventListener("toggle", draw);
    section.append(details);
  }
}

// Tables: sorted by a click on a heading in natural order, filtered by text, with bars, and with headings that stay.
const { compare } = new Intl.Collator("en", { numeric: true });
const textOf = (cell) => cell.textContent.trim().replaceAll("−", "-");
const numberOf = (cell) => parseFloat(textOf(cell).replaceAll(",", "").replace("…", "NaN"));
const isUnknown = (cell) => ["", "–"].includes(textOf(cell));
const inOrder = (p, q, numeric) => (numeric && numberOf(p) - numberOf(q)) || compare(textOf(p), textOf(q));

function prepareTable(box) {
  const [table, heads] = [box.querySelector("table"), [...box.querySelectorAll("thead th")]];
  const rows = [...table.tBodies[0].rows].filter((row) => row.cells.length === heads.length);
  for (const [column, th] of heads.entries()) {
    const cells = rows.map((row) => row.cells[column]);
    for (const cell of cells) if (/^\d{4}-\d\d\S*$/.test(textOf(cell))) cell.classList.add("text-nowrap");
    if (th.classList.contains("bar")) {
      const isShare = cells.some((cell) => textOf(cell).endsWith("%"));
      const most = isShare ? 100 : Math.max(...cells.map(numberOf).filter(isFinite));
      for (const cell of cells) cell.style.setProperty("--share", `${(100 * numberOf(cell)) / most || 0}%`);
    }
    if (rows.length < 3 || th.querySelector("a, button") || !textOf(th) || !cells.some(textOf)) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const order = th.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", order);
      const [sign, numeric] = [order === "ascending" ? 1 : -1, th.classList.contains("number")];
      rows.sort(({ cells: p }, { cells: q }) => isUnknown(p[column]) - isUnknown(q[column])
        || sign * inOrder(p[column], q[column], numeric));
      table.tBodies[0].append(...rows);
    });
  }
  if (rows.length < 20 || document.querySelector("form[data-live] [type=search]")) return;
  const [filter, label, field, count] = ["div", "label", "input", "output"].map((tag) => document.createElement(tag));
  filter.className = "filter";
  field.type = "search";
  field.className = "form-control form-control-sm d-inline-block w-auto";
  label.append("Filter ", field);
  filter.append(label, count);
  box.before(filter);
  field.addEventListener("input", () => {
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
    count.textContent = field.value ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  });
}

// A table that is cut off scrolls; of any other the headings stay at the top of the window.
function fitTables() {
  for (const box of document.querySelectorAll("#content .table-responsive")) {
    box.classList.remove("whole", "cut", "long");
    const cut = box.scrollWidth > box.clientWidth + 1;
    box.classList.add(cut ? "cut" : "whole");
    box.classList.toggle("long", cut && box.querySelectorAll("tbody tr").length > 25);
  }
}

// Fields of a search show their result without a button, and headings sort on the server, both without a new page.
let asked = 0;
async function replaceContent(url) {
  if (document.querySelector("#content .shiny-html-output, #content .action-button")) { location.href = url; return; }
  const turn = (asked += 1);
  const answer = await fetch(url);
  const after = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [content, now, focused] = [document.getElementById("content"), after.getElementById("content"), document.activeElement];
  const [form, twin] = [content, now].map((part) => part?.querySelector("form[data-live]"));
  if (turn !== asked) return;
  if (!twin || (!window.Plotly && now.querySelector("[data-figure]"))) { location.href = url; return; }
  if (form.contains(focused)) twin.replaceWith(form);
  content.replaceChildren(...now.childNodes);
  focused.focus({ preventScroll: true });
  history.replaceState(null, "", url);
  document.title = after.title;
  prepare();
}

function prepare() {
  for (const form of document.querySelectorAll("form:not([action])")) form.action = "?"; // Shiny submits only forms with an action
  fold();
  document.querySelectorAll("#content .table-responsive").forEach(prepareTable);
  fitTables();
  for (const strip of document.querySelectorAll(".strip")) strip.scrollLeft = strip.scrollWidth; // to the newest month
  for (const form of document.querySelectorAll("form[data-live]:not([data-ready])")) {
    let pause;
    form.dataset.ready = "";
    form.addEventListener("input", ({ isComposing }) => {
      clearTimeout(pause);
      if (!isComposing) pause = setTimeout(() => replaceContent(`?${new URLSearchParams(new FormData(form))}`), 250);
    });
  }
  for (const link of document.querySelectorAll("#content thead a")) {
    const column = link.closest("th").cellIndex;
    link.addEventListener("click", async (event) => {
      event.preventDefault();
      await replaceContent(link.href);
      document.querySelectorAll("#content thead th")[column]?.querySelector("a")?.focus({ preventScroll: true });
    });
  }
  draw();
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
      .map(([name, value]) => [name, { ...axis, ...value, title: { ...value.title, standoff: 10, font: { size: narrow.matches ? 10 : 13 } } }]));
    const phone = layout.showlegend ? ON_A_PHONE : { ...ON_A_PHONE, height: 270, margin: { l: 50, r: 8, t: 8, b: 50 } };
    const small = place.closest(".glance") ? AT_A_GLANCE : narrow.matches ? phone : {};
    const fitted = { ...layout, ...axes, ...small };
    const names = { textfont: { size: narrow.matches ? 9 : 12 } };
    Plotly.react(place, data.map((trace) => (trace.mode === "text" ? { ...trace, ...names } : trace)), { ...fitted, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: small === AT_A_GLANCE ? 11 : 12 } }, { responsive: true, displaylogo: false, displayModeBar: narrow.matches || small === AT_A_GLANCE ? false : "hover" });
  }
}

root.dataset.bsTheme = theme();
addEventListener("DOMContentLoaded", () => {
  root.classList.add("live");
  showOutcome();
  prepare();
  show(theme());
  new ResizeObserver(fitTables).observe(document.getElementById("content"));
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
  new MutationObserver(draw).observe(document.getElementById("content"), { childList: true, subtree: false });
});
// After a decision, and after requested runs, the page is loaded again, so that all of it shows the new state, with the outcome below its heading.
const OUTCOME = "outcome of the decision";
function showOutcome() {
  const outcome = sessionStorage.getItem(OUTCOME);
  if (!outcome) return;
  sessionStorage.removeItem(OUTCOME);
  document.querySelector("#content > h1").insertAdjacentHTML("afterend", outcome);
}

// Scroll to a new question or outcome of the decision form, and give it the keyboard focus.
new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach((node) => {
  const said = node.matches?.("[data-seen]") ? node : node.querySelector?.("[data-seen]");
  if (!said || (said.closest("#making") && document.getElementById("reason")?.value)) return; // keeps a typed reason
  said.scrollIntoView({ block: "center" });
  said.querySelector("button")?.focus({ preventScroll: true });
  if (!said.matches("#decision .decided, #making .decided")) return;
  sessionStorage.setItem(OUTCOME, said.outerHTML);
  location.replace(location.search); // from its top, which a reload would not show
}))).observe(root, { childList: true, subtree: true });
addEventListener("load", draw);
