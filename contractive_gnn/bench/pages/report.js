// The page: what is switched on, and everything drawn again when that, the theme or the width changes.

function checkbox(text, checked, onChange, swatch) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = checked;
  if (swatch) label.style.setProperty("--swatch", swatch);
  box.addEventListener("change", () => onChange(box.checked));
  label.append(box, text);
  return label;
}

function group(title, boxes) {
  const fieldset = document.createElement("fieldset");
  const legend = document.createElement("legend");
  legend.textContent = title;
  fieldset.append(legend, ...boxes);
  return fieldset;
}

class Section {
  constructor(element, data) {
    this.element = element;
    this.data = data;
    this.off = { models: new Set(), conditions: new Set() };
    this.options = { dots: true, published: true };
    this.table = element.querySelector("table");
    this.views = new Map();
    sortable(this.table);
    explaining(this.table, element.querySelector(".detail"));
    this.controls();
    const worst = this.table.querySelector("thead th[data-column]");
    if (worst) sortBy(this.table, worst, "descending");
  }

  get state() {
    return {
      models: this.data.models.filter((model) => !this.off.models.has(model)),
      conditions: this.data.conditions.filter((c) => !this.off.conditions.has(c.key)),
      ...this.options,
    };
  }

  controls() {
    const place = this.element.querySelector(".toggles");
    const turn = (kind, key) => (on) => {
      if (on) this.off[kind].delete(key);
      else this.off[kind].add(key);
      this.draw();
    };
    const colour = (i) => `var(--c${i % 7})`;
    const models = this.data.models.map((model, i) => checkbox(model, true, turn("models", model), colour(i)));
    const attacks = this.data.conditions.map((c) => checkbox(
      [c.name, ...(this.data.conditions.some((o) => o !== c && o.name === c.name) ? [c.threat] : [])].join(", "),
      true, turn("conditions", c.key),
    ));
    const options = [checkbox("single seeds", true, (on) => { this.options.dots = on; this.draw(); })];
    if (this.data.published.length) {
      options.push(checkbox("published", true, (on) => { this.options.published = on; this.draw(); }));
    }
    const bounds = this.element.querySelector("[data-chart=certified]");
    place.append(group("Models", models), ...(bounds ? [] : [group("Attacks", attacks), group("Show", options)]));
    place.hidden = false;
    for (const row of this.table.tBodies[0].rows) {
      const index = this.data.models.indexOf(row.dataset.model);
      if (index >= 0 && !row.classList.contains("published")) row.style.setProperty("--swatch", colour(index));
    }
  }

  draw() {
    redrawTable(this.table, this.data, this.state);
    const sorted = this.table.querySelector("th[aria-sort]");
    if (sorted) sortBy(this.table, sorted, sorted.getAttribute("aria-sort"));
    return Promise.all([...this.element.querySelectorAll(".chart")].map((place) => this.chart(place)));
  }

  async chart(place) {
    const look = theme();
    const width = place.clientWidth || place.parentElement.clientWidth;
    const found = this.state.models.length ? chartOf(place.dataset.chart, this.data, this.state, look, width) : null;
    (this.views.get(place) ?? []).forEach((view) => view.finalize());
    this.views.set(place, []);
    place.closest("figure").hidden = found === null;
    if (found === null) return;
    const parts = found.charts ?? [found];
    place.replaceChildren(...parts.map(() => document.createElement("div")));
    const options = {
      renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false },
      config: config(look), tooltip: { formatTooltip: told },
      downloadFileName: place.dataset.chart.replace(/\W+/g, "-"),
    };
    const made = parts.map((spec, i) => window.vegaEmbed(place.children[i], {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json", width,
      autosize: { type: "fit-x", contains: "padding" }, ...spec,
    }, options));
    this.views.set(place, await Promise.all(made));
  }
}

// What a mark says to the pointer, without what it has nothing to say about; texts cannot be markup.
function told(value, sanitize) {
  const known = Object.entries(value).filter(([, text]) => !["", "undefined", "null"].includes(String(text)));
  const row = ([name, text]) => `<tr><td class="key">${sanitize(name)}</td><td>${sanitize(text)}</td></tr>`;
  return `<table>${known.map(row).join("")}</table>`;
}

function copyButtons() {
  for (const line of document.querySelectorAll("dd.command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "copy";
    button.addEventListener("click", async () => {
      const code = line.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        // a page that was opened from a file may not be allowed to
        getSelection().selectAllChildren(code);
        document.execCommand("copy");
      }
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    line.append(button);
  }
}

const root = document.documentElement;
const wantsDark = matchMedia("(prefers-color-scheme: dark)");
const sections = JSON.parse(document.getElementById("data").textContent).sections.map(
  (data, i) => new Section(document.getElementById(`s${i}`), data),
);
const drawAll = () => Promise.all(sections.map((section) => section.draw()));

document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : wantsDark.matches;
  root.dataset.theme = dark ? "light" : "dark";
  drawAll();
});
wantsDark.addEventListener("change", drawAll);
let width = innerWidth, waiting = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's address bar comes and goes
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 150);
});
copyButtons();
drawAll().then(() => { root.dataset.drawn = "true"; });
