"use strict";
/* The cosine of the atoms with the text, stage by stage, beside that with other texts; an SVG a fusion. */
CI.flow = (node, flow) => {
  const { byId, el } = CI;
  function shape(name, attributes, text) {
    const node = document.createElementNS(byId("svg").namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }
  const { stages, texts } = flow, wide = 560, high = 250, left = 46, bottom = 70, top = 12, right = 12;
  node.replaceChildren();
  for (const text of texts) {
    const values = [...text.own, ...text.control.map((v, i) => (v === null ? null : v + (text.control_sd[i] ?? 0))), ...text.control.map((v, i) => (v === null ? null : v - (text.control_sd[i] ?? 0))), 0].filter((v) => v !== null);
    const low = Math.min(...values, -2 * text.null_sd), most = Math.max(...values, 2 * text.null_sd), room = 0.06 * (most - low || 1);
    const x = (i) => left + ((wide - left - right) * (i + 0.5)) / stages.length, y = (v) => top + ((high - top - bottom) * (most + room - v)) / (most - low + 2 * room);
    const svg = shape("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `Cosine of atoms with the text of ${text.fusion} at ${stages.length} stages, own text and texts of other structures` });
    svg.append(shape("rect", { x: left, width: wide - left - right, y: y(2 * text.null_sd), height: Math.max(1, y(-2 * text.null_sd) - y(2 * text.null_sd)), class: "null" }));
    for (const v of [low, 0, most]) if (v !== 0 || (low < 0 && most > 0)) svg.append(shape("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(2)), shape("line", { x1: left, x2: wide - right, y1: y(v), y2: y(v), class: "grid" }));
    stages.forEach((stage, i) => svg.append(shape("text", { transform: `translate(${x(i) + 4},${high - bottom + 14}) rotate(-38)`, "text-anchor": "end" }, stage)));
    for (const [name, list] of [["own", text.own], ["control", text.control]]) {
      const known = list.map((v, i) => [x(i), v]).filter(([, v]) => v !== null);
      if (name === "control") list.forEach((v, i) => { if (v !== null && text.control_sd[i] !== null) svg.append(shape("line", { x1: x(i), x2: x(i), y1: y(v - text.control_sd[i]), y2: y(v + text.control_sd[i]), class: "whisker" })); });
      svg.append(shape("polyline", { points: known.map(([at, v]) => `${at},${y(v)}`).join(" "), class: name }));
      list.forEach((v, i) => { if (v !== null) { const dot = shape("circle", { cx: x(i), cy: y(v), r: 3.5, class: name }); dot.append(shape("title", {}, `${stages[i]}: ${name === "own" ? "own text" : "other texts"} ${v}`)); svg.append(dot); } });
    }
    node.append(el("h3", {}, text.fusion), svg);
  }
};
