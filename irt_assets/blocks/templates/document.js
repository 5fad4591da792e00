// Tables sort by a click on a heading, and the long one is filtered by text. The page says the same without it.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((th, column) => {
    const button = document.createElement("button");
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const down = th.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].textContent.trim().replace(/−/g, "-");
      const number = (text) => (/^[+-]?[\d.]/.test(text) ? parseFloat(text) : NaN);
      const order = (x, y) => {
        const [p, q] = [number(x), number(y)];
        if (isNaN(p) !== isNaN(q)) return isNaN(p) ? 1 : -1;  // what is not known stays last
        return (isNaN(p) ? x.localeCompare(y) : p - q) * (down ? -1 : 1);
      };
      const rows = [...table.tBodies[0].rows].sort((r, s) => order(value(r), value(s)));
      table.tBodies[0].append(...rows);
    });
  });
}
for (const tool of document.querySelectorAll(".tool")) {
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "part of an item, topic or severity";
  const label = document.createElement("label");
  label.append("Show only: ", field);
  tool.append(label);
  const rows = document.getElementById(tool.dataset.of).tBodies[0].rows;
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
