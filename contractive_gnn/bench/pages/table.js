// The table: columns that sort, rows and columns that can be switched off, and a worst that is over what is left on.

function sortable(table) {
  for (const head of table.querySelectorAll("thead th[data-column]")) {
    const name = head.firstChild;
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(name.cloneNode());
    name.replaceWith(button);
    button.addEventListener("click", () => {
      sortBy(table, head, head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending");
    });
  }
}

function sortBy(table, head, direction) {
  const body = table.tBodies[0];
  const column = head.dataset.column;
  const value = (row) => parseFloat(cellOf(row, column)?.dataset.mean ?? "NaN");
  const measured = [...body.rows].filter((row) => !row.classList.contains("published"));
  const sign = direction === "descending" ? -1 : 1;
  measured.sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right);
    return sign * (left - right);
  });
  const first = [...body.rows].find((row) => row.classList.contains("published")) ?? null;
  measured.forEach((row) => body.insertBefore(row, first));
  table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", direction);
}

const cellOf = (row, column) => [...row.cells].find((cell) => cell.dataset.column === column);

// Cells answer to a click too, where there is no pointer to hover with.
function explaining(table, place) {
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("td[title]");
    if (!cell) return;
    const head = table.querySelector(`thead th[data-column="${CSS.escape(cell.dataset.column)}"]`);
    const what = [...head.childNodes].map((node) => node.textContent).filter(Boolean).join(", ");
    place.textContent = `${cell.parentElement.dataset.model}, ${what}: ${cell.title}`;
    place.hidden = false;
  });
}

function redrawTable(table, section, state) {
  const keys = new Set(state.conditions.map((c) => c.key));
  const all = new Set(section.conditions.map((c) => c.key));
  for (const cell of table.querySelectorAll("[data-column]")) {
    const key = cell.dataset.column;
    cell.hidden = all.has(key) && !keys.has(key);
  }
  for (const row of table.tBodies[0].rows) {
    const published = row.classList.contains("published");
    row.hidden = published ? !state.published : !state.models.includes(row.dataset.model);
    if (!published) for (const on of ["test", "targets"]) redrawWorst(row, section, state, on);
  }
  for (const on of ["test", "targets"]) {
    const detail = table.querySelector(`thead th[data-column="worst-${on}"] small`);
    const left = state.conditions.filter((c) => c.on === on && !c.clean).length;
    const text = `of ${left} attack${left === 1 ? "" : "s"}`;
    if (detail) detail.textContent = detail.textContent.replace(/of \d+ attacks?/, text);
  }
  const visible = [...table.tBodies[0].rows].filter((row) => !row.hidden && !row.classList.contains("published"));
  for (const on of ["test", "targets"]) markBest(visible, `worst-${on}`);
  for (const head of table.querySelectorAll("thead th[data-column]")) {
    if (!head.classList.contains("worst")) markBest(visible, head.dataset.column);
  }
}

function redrawWorst(row, section, state, on) {
  const cell = cellOf(row, `worst-${on}`);
  if (!cell) return;
  const attacks = state.conditions.filter((c) => c.on === on && !c.clean);
  const found = attacks
    .map((condition) => ({
      condition, score: section.scores.find((s) => s.condition === condition.key && s.model === row.dataset.model),
    }))
    .filter((pair) => pair.score);
  cell.textContent = "–";
  delete cell.dataset.mean;
  cell.removeAttribute("title");
  cell.dataset.partial = found.length < attacks.length;
  if (!found.length) return;
  const { condition, score } = found.reduce((a, b) => (mean(b.score.values) < mean(a.score.values) ? b : a));
  const why = document.createElement("small");
  why.textContent = condition.name + (found.length < attacks.length ? ", not all attacks" : "");
  const uneven = new Set(section.scores.map((s) => s.values.length)).size > 1;
  const count = uneven ? ` (n=${score.values.length})` : "";
  cell.textContent = `${shown(score.values)}${count}${score.doubt.length ? "†" : ""}`;
  cell.append(document.createElement("br"), why);
  cell.dataset.mean = mean(score.values);
  const named = (seed) => (typeof seed === "number" ? `seed ${seed}` : seed);
  cell.title = score.seeds.map((seed, i) => `${named(seed)}: ${score.values[i].toFixed(1)}`).join(", ");
}

function markBest(rows, column) {
  const cells = rows.map((row) => cellOf(row, column)).filter((cell) => cell);
  const fair = !cells.some((cell) => cell.dataset.partial === "true");
  const means = cells.map((cell) => parseFloat(cell.dataset.mean).toFixed(1));
  const best = Math.max(...means.filter((text) => text !== "NaN").map(parseFloat));
  cells.forEach((cell, i) => {
    cell.classList.toggle("best", fair && cells.length > 1 && parseFloat(means[i]) === best);
  });
}
