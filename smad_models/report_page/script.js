"use strict";
// Without this script the page shows all that it holds; with it tables are sorted and searched, and clips folded away.
document.documentElement.classList.add("js");

// What a cell is sorted by: a number where it is one, else its text; null = undefined, which comes last in both orders.
function valueOf(unit, column) {
  const cell = (unit.rows ? unit.rows[0] : unit).cells[column];
  const text = (cell.dataset.value ?? cell.textContent).trim();
  if (text === "" || text === "–") return null;
  const number = Number(text.replace("%", ""));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function makeSortable(table) {
  const isByBody = table.dataset.unit === "body"; // a clip is a body of two rows
  const units = isByBody ? [...table.tBodies] : [...table.tBodies[0].rows];
  const parent = isByBody ? table : table.tBodies[0];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    if (head.textContent.trim() === "") return;
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = { null: "ascending", ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      let sorted = units;
      if (order) {
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const keyed = units.map((unit) => [valueOf(unit, column), unit]);
        keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
        sorted = keyed.map(([, unit]) => unit);
      }
      table.classList.toggle("sorted", Boolean(order));
      parent.append(...sorted);
    });
  });
}

function makeSearchable(box) {
  const table = document.getElementById(box.dataset.table);
  const said = document.getElementById(box.dataset.said);
  const bodies = [...table.tBodies].map((body) => [body, body.rows[0].textContent.toLowerCase()]);
  function search() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [body, text] of bodies) {
      body.hidden = !words.every((word) => text.includes(word));
      shown += body.hidden ? 0 : 1;
    }
    said.textContent = `${shown} of ${bodies.length} clips`;
  }
  box.addEventListener("input", search);
  search();
}

function makeOpenable(body) {
  if (body.rows.length < 2) return;
  const head = body.rows[0].cells[0];
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    button.setAttribute("aria-expanded", String(body.classList.toggle("open")));
  });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll("tbody.clip").forEach(makeOpenable);
  document.querySelectorAll("input[data-table]").forEach(makeSearchable);
});
