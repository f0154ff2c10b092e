// What each chart draws, as a Vega-Lite specification. A chart shows what is in `state`: models and attacks left on.

const SHAPE = { published: "diamond", certified: "diamond" };
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const deviation = (values) => {
  if (values.length < 2) return 0;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, v) => sum + (v - middle) ** 2, 0) / (values.length - 1));
};
const shown = (values) =>
  values.length > 1 ? `${mean(values).toFixed(1)} ± ${deviation(values).toFixed(1)}` : mean(values).toFixed(1);
const listed = (score) => score.seeds.map((seed, i) => `${seed}: ${score.values[i].toFixed(1)}`).join(", ");

// Limits for percentages that do not make a difference of tenths look like a collapse.
function limits(values) {
  let low = Math.min(...values), high = Math.max(...values);
  const margin = Math.max(1, (high - low) * 0.05);
  low -= margin;
  high += margin;
  if (high - low < 10) {
    const middle = Math.min((low + high) / 2, 95.5);
    low = middle - 5;
    high = middle + 5;
  }
  return [Math.max(0, low), Math.min(100.5, high)];
}

const tooltips = (...fields) => fields.map((field) => ({ field, type: "nominal", title: field }));

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    ink: colour("--ink"), soft: colour("--soft"), line: colour("--line"), paper: colour("--paper"),
    colours: ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6"].map(colour),
  };
}

function config(look) {
  return {
    background: "transparent", font: "system-ui, 'DejaVu Sans', sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: look.soft, titleColor: look.soft, titleFontWeight: "normal", gridColor: look.line,
      domainColor: look.line, tickColor: look.line, labelFontSize: 12, titleFontSize: 12,
    },
    legend: { labelColor: look.ink, titleColor: look.soft, labelFontSize: 12, labelLimit: 240 },
  };
}

// One colour a model, the same in every chart and in the table.
const colourOf = (section, look, model) => look.colours[section.models.indexOf(model) % look.colours.length];
const colourScale = (section, look) => ({
  domain: section.models, range: section.models.map((model) => colourOf(section, look, model)),
});

// A legend as wide as the page: as many names in a line as fit, one at least.
function legend(section, state, width) {
  const longest = Math.max(...state.models.map((model) => model.length));
  return {
    title: null, orient: "top", values: state.models, symbolOpacity: 1, symbolType: "circle",
    columns: Math.max(1, Math.floor(width / (longest * 7 + 40))),
  };
}

function worstChart(section, state, look, width, on) {
  const marks = [];
  for (const model of state.models) {
    const own = state.conditions
      .filter((c) => c.on === on)
      .map((c) => ({ condition: c, score: section.scores.find((s) => s.condition === c.key && s.model === model) }))
      .filter((pair) => pair.score);
    const attacked = own.filter((pair) => !pair.condition.clean);
    if (!attacked.length) continue;
    const least = attacked.reduce((a, b) => (mean(b.score.values) < mean(a.score.values) ? b : a));
    const clean = mean(least.score.clean);
    const common = { model, order: mean(least.score.values) };
    marks.push({ ...common, kind: "range", accuracy: common.order, to: clean });
    for (const { condition, score } of attacked) {
      marks.push({
        ...common, kind: condition === least.condition ? "worst" : "attack", accuracy: mean(score.values),
        attack: `${condition.name}, ${condition.threat}`, mean: shown(score.values), "by seed": listed(score),
        clean: shown(score.clean),
      });
    }
    marks.push({ ...common, kind: "clean", accuracy: clean, attack: "clean", mean: shown(least.score.clean) });
    for (const bound of on === "test" ? section.certified.filter((c) => c.model === model) : []) {
      marks.push({
        ...common, kind: "certified", accuracy: mean(bound.values), attack: `certified, ${bound.text}`,
        mean: shown(bound.values), "by seed": listed(bound),
      });
    }
    const text = `${model}: ${shown(least.score.values)}, ${least.condition.name}`;
    marks.push({ ...common, kind: "name", accuracy: common.order, text });
  }
  if (!marks.length) return null;
  const domain = limits(marks.flatMap((m) => (m.to === undefined ? [m.accuracy] : [m.accuracy, m.to])));
  const only = (...kinds) => [{ filter: { field: "kind", oneOf: kinds } }];
  const x = { field: "accuracy", type: "quantitative" };
  const tip = tooltips("model", "attack", "mean", "by seed", "clean");
  return {
    data: { values: marks }, height: 50 * new Set(marks.map((m) => m.model)).size,
    encoding: {
      y: {
        field: "model", type: "nominal", axis: null,
        sort: { field: "order", op: "min", order: "descending" }, scale: { paddingInner: 0.2 },
      },
      x: { ...x, scale: { domain, nice: false, zero: false }, title: "accuracy (%)", axis: { tickCount: 6 } },
      color: { field: "model", type: "nominal", scale: colourScale(section, look), legend: null },
    },
    layer: [
      {
        transform: only("range"), mark: { type: "rule", strokeWidth: 3, opacity: 0.35 },
        encoding: { x, x2: { field: "to" } },
      },
      {
        transform: only("attack"), mark: { type: "tick", thickness: 2, size: 14, opacity: 0.9 },
        encoding: { tooltip: tip },
      },
      {
        transform: only("certified"),
        mark: { type: "point", shape: SHAPE.certified, size: 90, strokeWidth: 2, fill: look.paper },
        encoding: { tooltip: tip },
      },
      {
        transform: only("clean"), mark: { type: "point", size: 90, strokeWidth: 2, fill: look.paper },
        encoding: { tooltip: tip },
      },
      { transform: only("worst"), mark: { type: "circle", size: 150, opacity: 1 }, encoding: { tooltip: tip } },
      {
        transform: only("name"),
        mark: { type: "text", align: "left", baseline: "top", fontSize: 12.5, color: look.ink, dy: -4 },
        encoding: {
          text: { field: "text" }, color: { value: look.ink }, x: { value: 2 },
          y: { field: "model", type: "nominal", bandPosition: 0 },
        },
      },
    ],
  };
}

function seedsChart(section, state, look, width) {
  const values = [];
  const names = [];
  for (const condition of state.conditions) {
    const label = [condition.name, ...(condition.clean ? [] : [condition.threat]),
      ...(condition.on === "targets" ? ["targets"] : [])].join(" · ");
    for (const model of state.models) {
      const score = section.scores.find((s) => s.condition === condition.key && s.model === model);
      if (!score) continue;
      if (names.at(-1)?.row !== condition.key) names.push({ kind: "name", row: condition.key, text: label });
      score.values.forEach((accuracy, i) => values.push({
        kind: "seed", row: condition.key, model, accuracy, attack: label, seed: score.seeds[i],
        shown: accuracy.toFixed(1), clean: score.clean[i].toFixed(1), doubt: score.doubt.join("; "),
      }));
      values.push({
        kind: "mean", row: condition.key, model, accuracy: mean(score.values), attack: label,
        shown: shown(score.values), seed: "mean", clean: shown(score.clean),
      });
    }
    for (const p of state.published ? section.published.filter((a) => a.condition === condition.key) : []) {
      if (names.at(-1)?.row !== condition.key) continue;
      values.push({
        kind: "published", row: condition.key, model: p.model, accuracy: p.accuracy, attack: label,
        shown: p.accuracy.toFixed(1), seed: `published, ${p.source}`,
      });
    }
  }
  if (!values.length) return null;
  const domain = limits(values.map((v) => v.accuracy));
  const only = (...kinds) => [{ filter: { field: "kind", oneOf: kinds } }];
  const tip = [...tooltips("model", "attack", "seed"), { field: "shown", title: "accuracy" },
    ...tooltips("clean", "doubt")];
  const row = 26 + 11 * state.models.length;
  // lanes for the models, under the name of the row
  const lanes = {
    field: "model", type: "nominal", sort: section.models, scale: { paddingInner: 0.3, range: [20, row - 6] },
  };
  const coloured = {
    field: "model", type: "nominal", scale: colourScale(section, look), legend: legend(section, state, width),
  };
  return {
    data: { values: [...names, ...values] }, height: row * names.length,
    encoding: {
      y: {
        field: "row", type: "nominal", sort: state.conditions.map((c) => c.key), axis: null,
        scale: { padding: 0 },
      },
    },
    layer: [
      {
        transform: only("name"), mark: { type: "rule", color: look.line },
        encoding: { y: { field: "row", type: "nominal", bandPosition: 0 } },
      },
      {
        transform: only("name"),
        mark: { type: "text", align: "left", baseline: "top", fontSize: 12.5, color: look.ink, dy: 3 },
        encoding: { text: { field: "text" }, x: { value: 2 }, y: { field: "row", type: "nominal", bandPosition: 0 } },
      },
      {
        transform: only("seed", "mean", "published"),
        encoding: {
          x: {
            field: "accuracy", type: "quantitative", scale: { domain, nice: false, zero: false },
            title: "accuracy (%)", axis: { tickCount: 6, orient: "bottom" },
          },
        },
        layer: [
          {
            transform: only("published"),
            mark: { type: "point", shape: SHAPE.published, size: 45, color: look.soft, strokeWidth: 1.5, yOffset: 8 },
            encoding: { tooltip: tip },
          },
          ...(state.dots ? [{
            transform: only("seed"), mark: { type: "circle", size: 42, opacity: 0.65 },
            encoding: {
              yOffset: lanes, tooltip: tip, color: coloured,
            },
          }] : []),
          {
            transform: only("mean"), mark: { type: "tick", thickness: 3, size: 12, opacity: 1 },
            encoding: {
              yOffset: lanes, tooltip: tip, color: coloured,
            },
          },
        ],
      },
    ],
  };
}

function curveChart(section, state, look, width, key) {
  const conditions = state.conditions.filter((c) => c.curve === key);
  if (!conditions.length) return null;
  const points = [];
  const add = (model, budget, name, score) => {
    points.push({
      kind: "mean", model, budget, accuracy: mean(score.values), low: mean(score.values) - deviation(score.values),
      high: mean(score.values) + deviation(score.values), attack: name, seed: "mean", shown: shown(score.values),
    });
    score.values.forEach((accuracy, i) => points.push({
      kind: "seed", model, budget, accuracy, attack: name, seed: score.seeds[i], shown: accuracy.toFixed(1),
    }));
  };
  for (const model of state.models) {
    const own = conditions
      .map((c) => [c, section.scores.find((s) => s.condition === c.key && s.model === model)])
      .filter(([, score]) => score);
    if (!own.length) continue;
    add(model, 0, "clean", { seeds: own[0][1].seeds, values: own[0][1].clean });
    own.forEach(([condition, score]) => add(model, condition.budget, condition.name, score));
  }
  if (!points.length) return null;
  if (state.published) {
    for (const condition of conditions) {
      for (const p of section.published.filter((a) => a.condition === condition.key)) {
        points.push({
          kind: "published", model: p.model, budget: condition.budget, accuracy: p.accuracy, attack: condition.name,
          shown: p.accuracy.toFixed(1), seed: `published, ${p.source}`,
        });
      }
    }
  }
  const domain = limits(points.flatMap((p) => (p.kind === "mean" ? [p.low, p.high] : [p.accuracy])));
  const only = (kind) => [{ filter: { field: "kind", equal: kind } }];
  const scale = { domain, nice: false, zero: false };
  const y = { field: "accuracy", type: "quantitative", scale, title: "accuracy (%)" };
  const tip = [...tooltips("model", "attack", "seed"), { field: "shown", title: "accuracy" }];
  const ticks = [...new Set([0, ...conditions.map((c) => c.budget)])].sort((a, b) => a - b);
  const coloured = {
    field: "model", type: "nominal", scale: colourScale(section, look), legend: legend(section, state, width),
  };
  return {
    data: { values: points }, height: 260,
    encoding: {
      x: {
        field: "budget", type: "quantitative", title: conditions[0].axis,
        axis: { values: ticks, grid: false }, scale: { nice: false, padding: 8 },
      },
    },
    layer: [
      {
        transform: only("mean"), mark: { type: "area", opacity: 0.14 },
        encoding: { y: { ...y, field: "low" }, y2: { field: "high" }, color: coloured },
      },
      { transform: only("mean"), mark: { type: "line", strokeWidth: 2.5 }, encoding: { y, color: coloured } },
      ...(state.dots ? [{
        transform: only("seed"), mark: { type: "circle", size: 20, opacity: 0.5 },
        encoding: { y, color: coloured, tooltip: tip },
      }] : []),
      {
        transform: only("mean"), mark: { type: "circle", size: 70, opacity: 1 },
        encoding: { y, color: coloured, tooltip: tip },
      },
      ...(points.some((p) => p.kind === "published") ? [{
        transform: only("published"),
        mark: { type: "point", shape: SHAPE.published, size: 45, color: look.soft, strokeWidth: 1.5 },
        encoding: { y, tooltip: tip },
      }] : []),
    ],
  };
}

function certifiedChart(section, state, look, width) {
  const units = [...new Set(section.certified.map((c) => c.unit))];
  const models = state.models;
  const charts = [];
  for (const unit of units) {
    const points = [];
    for (const model of models) {
      const own = section.certified.filter((c) => c.unit === unit && c.model === model);
      if (!own.length) continue;
      const add = (kind, budget, values, seeds, name) => points.push({
        kind, model, budget, accuracy: mean(values), attack: name, mean: shown(values),
        "by seed": listed({ values, seeds }),
      });
      for (const kind of own.some((c) => c.attacked.length) ? ["certified", "attacked"] : ["certified"]) {
        add(kind, 0, own[0].clean, own[0].seeds, "clean");
      }
      for (const c of own) {
        add("certified", c.budget, c.values, c.seeds, `certified, ${c.text}`);
        if (c.attacked.length) add("attacked", c.budget, c.attacked, c.seeds, `not changed by attacks, ${c.text}`);
      }
    }
    if (!points.length) continue;
    const coloured = {
      field: "model", type: "nominal", scale: colourScale(section, look), legend: legend(section, state, width),
    };
    const line = {
      x: {
        field: "budget", type: "quantitative", title: unit, scale: { nice: false, padding: 8 },
        axis: { grid: false, values: [...new Set(points.map((p) => p.budget))] },
      },
      y: {
        field: "accuracy", type: "quantitative", title: "accuracy (%)",
        scale: { domain: limits(points.map((p) => p.accuracy)), nice: false, zero: false },
      },
      color: coloured,
      strokeDash: {
        field: "kind", type: "nominal", legend: null,
        scale: { domain: ["certified", "attacked"], range: [[1, 0], [5, 4]] },
      },
      detail: { field: "kind", type: "nominal" },
    };
    charts.push({
      data: { values: points }, height: 260,
      encoding: line,
      layer: [
        { mark: { type: "line", strokeWidth: 2.5 } },
        {
          mark: { type: "circle", size: 70, opacity: 1 },
          encoding: { tooltip: tooltips("model", "attack", "mean", "by seed") },
        },
      ],
    });
  }
  return charts[0] ? { charts } : null;
}

function chartOf(kind, section, state, look, width) {
  if (kind === "seeds") return seedsChart(section, state, look, width);
  if (kind === "certified") return certifiedChart(section, state, look, width);
  if (kind.startsWith("worst-")) return worstChart(section, state, look, width, kind.slice(6));
  return curveChart(section, state, look, width, kind.slice(6));
}
