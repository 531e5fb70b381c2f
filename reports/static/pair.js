"use strict";
/* Two heat maps of one structure on one scale, and their difference. */
(() => {
  const { byId, data, el, heatmap, legend, tableView, theme, written } = CI;
  const page = data(), W = page.words.length, R = page.atoms.length, MOST_WORDS = 40;
  const unit = 10 ** page.decimals, state = { ratio: true, all: W <= MOST_WORDS, row: null, word: null };
  const at = (list, row, word) => list[row * W + word];
  const shown = (list) => (row, word) => {
    const value = at(list, row, word);
    if (value === null) return null;
    if (!state.ratio) return value / unit;
    /* What is written as 0 is less than half of the last decimal. */
    return page.uniform[word] > 0 ? Math.log2(Math.max(value, 0.5) / page.uniform[word]) : null;
  };
  const apart = (row, word) => (at(page.a, row, word) === null || at(page.b, row, word) === null ? null : at(page.b, row, word) - at(page.a, row, word));
  const rows = Array.from({ length: R }, (_, row) => row);
  let words = [], maps = [];

  function visible() {
    const all = page.words.map((_, word) => word);
    if (state.all) return all;
    const far = (word) => Math.max(...rows.map((row) => Math.max(Math.abs(apart(row, word) ?? 0), ...[page.a, page.b].map((list) => Math.abs((at(list, row, word) ?? 0) - page.uniform[word])))));
    const distance = all.map(far);
    return all.sort((x, y) => distance[y] - distance[x]).slice(0, MOST_WORDS).sort((x, y) => x - y);
  }
  function say() {
    const node = byId("readout");
    if (state.row === null || state.word === null) { node.textContent = "Point at a cell: it is marked in all three maps."; return; }
    const times = (list) => (page.uniform[state.word] > 0 ? ` (×${(at(list, state.row, state.word) / page.uniform[state.word]).toFixed(2)} uniform)` : "");
    node.replaceChildren(el("b", {}, page.atoms[state.row]), " → ", el("b", {}, el("bdi", {}, page.words[state.word])), ": ",
      ...[["a", page.a], ["b", page.b]].flatMap(([name, list]) => [`${page.labels[name === "a" ? 0 : 1]} `, el("span", { className: "value", id: `value-${name}` }, written(at(list, state.row, state.word), page.decimals)), `${times(list)}; `]),
      "difference ", el("span", { className: "value", id: "value-difference" }, written(apart(state.row, state.word), page.decimals)),
      `; uniform ${written(page.uniform[state.word], page.decimals)}`);
  }
  function point(row, column) {
    state.row = row;
    state.word = column === null ? null : words[column];
    maps.forEach((map) => map.draw({ row: row ?? -1, column: column ?? -1 }));
    say();
  }
  function build() {
    words = visible();
    const most = (value, least) => rows.reduce((top, row) => page.words.reduce((one, _, word) => Math.max(one, value(row, word) ?? 0), top), least);
    const both = Math.max(most(shown(page.a), 0), most(shown(page.b), 0));
    const plain = (v) => Number(v.toPrecision(3)).toString();
    const scale = state.ratio ? { kind: "diverging", span: Math.max(Math.log2(1.1), both), format: (v) => `×${(2 ** v).toFixed(2)}` }
      : { kind: "sequential", span: both || 1 / unit, format: plain };
    const wide = { kind: "diverging", span: most((row, word) => Math.abs(apart(row, word) ?? 0) / unit, 0) || 1 / unit, format: plain };
    const separators = rows.filter((row) => row && page.orbits[row] !== page.orbits[row - 1]);
    const draw = (id, value, colours, label) => heatmap(byId(id), {
      rows: page.atoms, columns: words.map((word) => page.words[word]), value: (row, column) => value(row, words[column]),
      scale: colours, separators, describedBy: "readout", label, point, pick: point,
    });
    maps = [
      draw("map-a", shown(page.a), scale, `Attention in ${page.labels[0]}`),
      draw("map-b", shown(page.b), scale, `Attention in ${page.labels[1]}, on the same scale`),
      draw("map-difference", (row, word) => { const gap = apart(row, word); return gap === null ? null : gap / unit; }, wide, "Difference of the two maps"),
    ];
    legend(byId("legend"), scale, state.ratio ? "times uniform attention, one scale for both" : "share of the atom's attention, one scale for both");
    legend(byId("legend-difference"), wide, `${page.labels[1]} less ${page.labels[0]}, share of the atom's attention`);
    byId("cut-words").textContent = words.length < W ? `${words.length} of ${W} words are shown: those furthest from uniform or from each other.` : "";
    point(null, null);
  }
  tableView(byId("table"), () => ({
    head: ["atom", "word", ...page.labels, "difference", "uniform"],
    rows: rows.flatMap((row) => words.map((word) => [page.atoms[row], page.words[word], ...[at(page.a, row, word), at(page.b, row, word), apart(row, word), page.uniform[word]].map((v) => written(v, page.decimals))])),
  }));
  byId("ratio").checked = state.ratio;
  byId("ratio").addEventListener("change", (event) => { state.ratio = event.target.checked; build(); });
  byId("all-words").checked = state.all;
  byId("all-words").parentElement.hidden = state.all;
  byId("all-words").addEventListener("change", (event) => { state.all = event.target.checked; build(); });
  requestAnimationFrame(() => setTimeout(() => { theme(build); build(); document.documentElement.dataset.ready = "true"; }));
})();
