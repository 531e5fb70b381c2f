"use strict";
/* The page of one structure: text, crystal, heat map and gates, linked by what is pointed at. */
(() => {
  const { byId, colour, css, data, el, heatmap, inkOn, legend, tableView, theme, written } = CI;
  const page = data();
  const words = page.words, atoms = page.atoms, rows = page.rows;
  const maps = page.quantities.filter((q) => q.axes.includes("word"));
  const perAtom = page.quantities.filter((q) => q.axes.length === 1 && q.axes[0] === "atom");
  const W = words.text.length, N = atoms.label.length, R = rows.length, MOST_WORDS = 40;
  const rowOf = new Array(N).fill(-1);
  rows.forEach((group, row) => group.forEach((atom) => { rowOf[atom] = row; }));
  const state = {
    quantity: 0, head: 0, against: null, allWords: W <= 48, split: false, colourBy: "pointed",
    atom: null, word: null, pinnedAtom: null, pinnedWord: null,
  };

  /* ---- numbers ---- */
  const quantity = () => maps[state.quantity];
  const has = (source, axis) => source.axes.includes(axis);
  /* row -1 is the structure as a whole. */
  function raw(q, source, head, row, word) {
    let place = 0;
    for (const axis of source.axes) {
      if (axis === "atom" && row < 0) continue;
      place = axis === "head" ? place * q.heads.length + head : axis === "atom" ? place * R + row : place * W + word;
    }
    if (row < 0 && source === q && has(q, "atom")) return q.over_atoms ? q.over_atoms[place] : null;
    return source.values[place];
  }
  const control = (q) => q.controls.find((c) => c.name === state.against.split(":")[1]);
  function shown(q, head, row, word) {
    const value = raw(q, q, head, row, word);
    if (value === null || value === undefined) return null;
    if (!state.against) return value / 10 ** q.decimals;
    const other = raw(q, control(q), head, row, word);
    if (other === null || other === undefined) return null;
    if (state.against.startsWith("minus")) return (value - other) / 10 ** q.decimals;
    /* What is written as 0 is less than half of the last decimal: it has a colour, that of the lower end. */
    return other > 0 && value >= 0 ? Math.log2(Math.max(value, 0.5) / other) : null;
  }
  const hasWhole = (q) => !has(q, "atom") || q.over_atoms !== null;
  const lines = () => {
    const q = quantity();
    if (!has(q, "atom")) return [{ row: -1, atom: null, label: "structure" }];
    const list = state.split
      ? rows.flatMap((group, row) => group.map((atom) => ({ row, atom, label: atoms.label[atom] })))
      : rows.map((group, row) => ({ row, atom: group[0], label: groupLabel(group) }));
    list.sort((a, b) => atoms.orbit[a.atom] - atoms.orbit[b.atom] || a.atom - b.atom);
    return q.over_atoms ? [{ row: -1, atom: null, label: N > 1 ? "all atoms (mean)" : "the atom" }, ...(N > 1 ? list : [])] : list;
  };
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  function groupLabel(group) {
    const names = group.slice(0, 2).map((atom) => atoms.label[atom]).join(", ");
    return group.length > 2 ? `${names} … (${group.length} alike)` : names;
  }
  function visibleWords(q) {
    const all = words.text.map((_, i) => i);
    if (state.allWords || W <= MOST_WORDS) return all;
    /* The words that are furthest from the control, whatever is shown of them. */
    const list = lines().slice(0, 40), first = q.controls[0];
    const apart = (row, i) => Math.abs((raw(q, q, state.head, row, i) ?? 0) - (first ? raw(q, first, state.head, row, i) ?? 0 : 0));
    const weights = all.map((i) => Math.max(...list.map((line) => apart(line.row, i))));
    return all.sort((a, b) => weights[b] - weights[a]).slice(0, MOST_WORDS).sort((a, b) => a - b);
  }

  /* ---- scale ---- */
  function scaleOf(q) {
    let most = 0;
    const over = state.against.startsWith("over");
    for (const line of lines()) for (let i = 0; i < W; i += 1) {
      const value = shown(q, state.head, line.row, i) ?? 0;
      most = Math.max(most, over ? value : Math.abs(value));
    }
    if (over) {
      /* As far down as the largest ratio goes up: words with next to nothing would stretch it without end. Never so
         fine that rounding looks like structure: at least a tenth more or less. */
      return { kind: "diverging", span: Math.max(Math.log2(1.1), most), format: (v) => `×${(2 ** v).toFixed(2)}` };
    }
    const span = most || 10 ** -q.decimals, kind = state.against || q.signed ? "diverging" : "sequential";
    return { kind, span, format: (v) => Number(v.toPrecision(3)).toString() };
  }
  let scale = null;
  const caption = (q) => {
    if (!state.against) return q.unit;
    const c = control(q);
    return state.against.startsWith("over") ? `times “${c.label}”` : `${q.unit}, less “${c.label}”`;
  };

  /* ---- what is pointed at ---- */
  const currentAtom = () => state.atom ?? state.pinnedAtom;
  const currentWord = () => state.word ?? state.pinnedWord;
  function describe() {
    const q = quantity(), word = currentWord(), atom = currentAtom();
    const node = byId("readout");
    if (!q) return;
    delete node.dataset.value;
    const row = atom === null ? -1 : rowOf[atom];
    const who = !has(q, "atom") ? "the text" : atom !== null ? atoms.label[atom] : N > 1 ? "all atoms" : atoms.label[0];
    if (word === null && atom === null) { node.textContent = "Point at a word, an atom or a cell; click to hold it, Escape to let go."; return; }
    if (atom !== null && row < 0 && has(q, "atom")) { node.textContent = `${who}: its row was left out of this page.`; return; }
    if (word === null) { node.textContent = has(q, "atom") ? `${who}: the text is shaded by this atom’s row.` : `${atoms.label[atom]}: what is shown has no row of its own for atoms.`; return; }
    const value = raw(q, q, state.head, row, word);
    if (value === null || value === undefined) { node.textContent = `“${words.text[word]}”: undefined for ${who}.`; return; }
    node.dataset.value = written(value, q.decimals);
    const parts = q.controls.map((c) => {
      const other = raw(q, c, state.head, row, word);
      const times = other > 0 && !q.signed ? `, ×${(value / other).toFixed(2)}` : "";
      return `${c.name.replaceAll("_", " ")} ${written(other, q.decimals)}${times}`;
    });
    const kind = words.category[word] === "special" ? "special token" : words.category[word];
    node.replaceChildren(
      el("b", {}, who), has(q, "atom") && q.over_atoms ? " → " : " · ", el("b", {}, el("bdi", {}, words.text[word] || "(empty)")), ` (${kind}, ${words.pieces[word]} piece${words.pieces[word] > 1 ? "s" : ""}): `,
      el("span", { className: "value" }, written(value, q.decimals)), q.heads.length ? ` in ${q.heads[state.head]}` : "",
      parts.length ? `; control: ${parts.join("; ")}` : "; no control");
  }

  function point(atom, word) {
    if (atom === state.atom && word === state.word) return;
    state.atom = atom; state.word = word;
    light();
  }
  function pin(atom, word) {
    const same = atom === state.pinnedAtom && word === state.pinnedWord;
    state.pinnedAtom = same ? null : atom;
    state.pinnedWord = same ? null : word;
    light();
  }
  function light() {
    shadeText(); drawMap(); drawCrystal(); describe(); markGates();
  }

  /* ---- text ---- */
  const spans = [];
  function buildText() {
    const node = byId("text");
    const lastRead = words.text.reduce((most, _, i) => (words.category[i] === "special" ? most : Math.max(most, words.end[i])), 0);
    let at = 0;
    for (const [word, text] of page.segments) {
      if (word === null) {
        node.append(el("span", { className: at >= lastRead && page.structure.truncated ? "cut" : "" }, text));
        at += [...text].length;
        continue;
      }
      const span = el("span", { className: "word", tabIndex: -1 }, text);
      span.dataset.word = word;
      spans.push([word, span]);
      node.append(span);
      at = words.end[word];
    }
    const target = (event) => (event.target.dataset && event.target.dataset.word !== undefined ? Number(event.target.dataset.word) : null);
    node.addEventListener("pointerover", (event) => point(state.atom, target(event)));
    node.addEventListener("pointerleave", () => point(null, null));
    node.addEventListener("click", (event) => { if (target(event) !== null) pin(state.pinnedAtom, target(event)); });
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter" && currentWord() !== null) pin(state.pinnedAtom, currentWord());
      if (!step || !spans.length) return;
      event.preventDefault();
      const place = spans.findIndex(([word]) => word === currentWord());
      point(null, spans[place < 0 ? 0 : Math.min(spans.length - 1, Math.max(0, place + step))][0]);
    });
  }
  function shadeText() {
    const q = quantity(), atom = currentAtom(), word = currentWord();
    const row = atom === null ? -1 : rowOf[atom];
    const known = q && (row >= 0 || !has(q, "atom") || (atom === null && hasWhole(q)));
    for (const [index, span] of spans) {
      const rgb = known ? colour(scale, shown(q, state.head, row, index)) : null;
      span.style.backgroundColor = css(rgb);
      span.style.color = inkOn(rgb);
      span.classList.toggle("on", index === word);
    }
    byId("shaded").textContent = !q ? "" : known ? `Shaded: ${q.label}${!has(q, "atom") ? "" : `, ${atom !== null ? atoms.label[atom] : N > 1 ? "mean over atoms" : atoms.label[0]}`}${q.heads.length ? `, ${q.heads[state.head]}` : ""}${state.against ? `, ${caption(q)}` : ""}.`
      : "Point at an atom: this map has no mean over atoms to shade the text by.";
  }

  /* ---- heat map ---- */
  let map = null, mapLines = [], mapWords = [];
  function buildMap() {
    const q = quantity();
    if (!q) return;
    scale = scaleOf(q);
    mapLines = lines();
    mapWords = visibleWords(q);
    /* Lines between orbits, or between elements where every row is an orbit of its own. */
    const orbits = new Set(mapLines.map((line) => (line.atom === null ? null : atoms.orbit[line.atom])));
    const kind = orbits.size === mapLines.length ? atoms.element : atoms.orbit;
    const separators = mapLines.map((line, i) => (i && (mapLines[i - 1].atom === null || kind[line.atom] !== kind[mapLines[i - 1].atom]) ? i : -1)).filter((i) => i > 0);
    map = heatmap(byId("map"), {
      rows: mapLines.map((line) => line.label), columns: mapWords.map((i) => words.text[i]),
      value: (r, c) => shown(q, state.head, mapLines[r].row, mapWords[c]), scale, separators, describedBy: "readout",
      label: `Heat map of ${q.label}: ${mapLines.length} rows of atoms, ${mapWords.length} words. Arrow keys move from cell to cell.`,
      point: (r, c) => point(r === null ? null : mapLines[r].atom, c === null ? null : mapWords[c]),
      pick: (r, c) => pin(r === null ? (c === null ? null : state.pinnedAtom) : mapLines[r].atom, c === null ? null : mapWords[c]),
    });
    legend(byId("legend"), scale, caption(q));
    byId("about").textContent = q.note;
    byId("unreached").hidden = q.reaches_prediction;
    const sum = (list) => list.reduce((total, i) => total + Math.max(0, raw(q, q, state.head, hasWhole(q) ? -1 : 0, i) ?? 0), 0);
    const left = mapWords.length < W;
    byId("cut-words").textContent = left ? `${mapWords.length} of ${W} words are shown, with ${((100 * sum(mapWords)) / (sum(words.text.map((_, i) => i)) || 1)).toFixed(0)} % of the total.` : "";
    drawMap();
    fillTables();
  }
  function drawMap() {
    if (!map) return;
    const atom = currentAtom(), word = currentWord();
    map.draw({ row: atom === null ? -1 : mapLines.findIndex((line) => line.atom !== null && (state.split ? line.atom === atom : line.row === rowOf[atom] && rowOf[atom] >= 0)), column: word === null ? -1 : mapWords.indexOf(word) });
  }

  /* ---- crystal ---- */
  function atomColour(atom) {
    const word = currentWord(), q = quantity();
    if (state.colourBy === "pointed" && q && word !== null && has(q, "atom")) return rowOf[atom] < 0 ? null : colour(scale, shown(q, state.head, rowOf[atom], word));
    const own = perAtom.find((one) => one.name === state.colourBy);
    if (own) return colour(rangeOf(own), own.values[atom] === null ? null : own.values[atom] / 10 ** own.decimals - rangeOf(own).low);
    const hex = page.element_colours[atoms.element[atom]];
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }
  function rangeOf(q) {
    if (!q.range) {
      const known = q.values.filter((v) => v !== null).map((v) => v / 10 ** q.decimals);
      const low = Math.min(...known), high = Math.max(...known);
      q.range = { kind: "sequential", low, span: high - low || 1, format: (v) => (v + low).toFixed(q.decimals) };
    }
    return q.range;
  }
  function say() {
    const word = currentWord(), q = quantity(), node = byId("crystal-legend"), own = perAtom.find((one) => one.name === state.colourBy);
    if (own) legend(node, rangeOf(own), `${own.label}: ${own.unit}`);
    else if (state.colourBy === "pointed" && q && word !== null && has(q, "atom")) legend(node, scale, `“${words.text[word]}”: ${caption(q)}`);
    else {
      const present = [...new Set(atoms.element)];
      node.replaceChildren(...present.map((symbol) => {
        const dot = el("span", { className: "dot" });
        dot.style.backgroundColor = page.element_colours[symbol];
        return el("span", { className: "key" }, dot, symbol);
      }), el("div", { className: "caption" }, state.colourBy === "pointed" && q ? "By element; point at a word to colour atoms by it." : "By element."));
    }
  }
  const crystal = CI.crystal(byId("crystal"), page, {
    colourOf: atomColour,
    chosen: currentAtom,
    alike: (a, b) => a === b || (rowOf[a] >= 0 && rowOf[a] === rowOf[b]),
    point: (atom) => point(atom, null),
    pick: (atom) => pin(atom, atom === null ? null : state.pinnedWord),
    step: (atom) => { state.pinnedAtom = atom; state.atom = null; light(); },
  });
  function drawCrystal() { say(); crystal.draw(); }

  /* ---- gates and what else there is an atom ---- */
  const MOST_BARS = 120;
  let bars = [];
  function buildGates() {
    const node = byId("gates");
    if (!node) return;
    const q = perAtom[Number(byId("gate-quantity").value)];
    const layer = Number((q.name.match(/^fusion\.(\d+)\./) || [])[1]);
    const spread = q.name.endsWith(".alpha_mean") ? page.gates.find((gate) => gate.layer === layer) : null;
    const groups = [], known = new Map();
    atoms.label.forEach((_, atom) => {
      const key = `${atoms.graph_class[atom]},${q.values[atom]}`;
      if (!known.has(key)) { known.set(key, groups.length); groups.push([]); }
      groups[known.get(key)].push(atom);
    });
    groups.sort((a, b) => atoms.orbit[a[0]] - atoms.orbit[b[0]] || a[0] - b[0]);
    const number = (atom) => (q.values[atom] === null ? null : q.values[atom] / 10 ** q.decimals);
    const most = q.name.includes("alpha") || q.name.includes("share") ? 1 : Math.max(1e-9, ...groups.map((group) => Math.abs(number(group[0]) ?? 0)));
    bars = groups.slice(0, MOST_BARS).map((group) => {
      const fill = el("span", { className: "fill" });
      fill.classList.toggle("minus", number(group[0]) < 0);
      fill.style.width = `${(100 * Math.abs(number(group[0]) ?? 0)) / most}%`;
      const track = el("span", { className: "track" }, fill);
      if (spread && spread.alpha_mean !== null && spread.spread_null !== null) {
        const band = el("span", { className: "band" });
        band.style.left = `${100 * Math.max(0, spread.alpha_mean - 2 * spread.spread_null)}%`;
        band.style.width = `${Math.max(0.4, 400 * spread.spread_null)}%`;
        track.append(band);
      }
      const line = el("button", { type: "button", className: "bar" }, el("span", { className: "who" }, groupLabel(group)), track, el("span", { className: "number" }, written(q.values[group[0]], q.decimals)));
      line.addEventListener("pointerenter", () => point(group[0], null));
      line.addEventListener("pointerleave", () => point(null, null));
      line.addEventListener("click", () => pin(group[0], state.pinnedWord));
      line.dataset.atom = group[0];
      return line;
    });
    node.replaceChildren(...bars, ...(groups.length > MOST_BARS ? [el("p", { className: "small" }, `${groups.length - MOST_BARS} further groups of atoms are in the table.`)] : []));
    byId("gate-note").textContent = spread && spread.alpha_sd !== null && spread.spread_null !== null
      ? `${capital(q.unit)}. Atoms spread by ${spread.alpha_sd} (sd); ${spread.spread_null} is what channels that know nothing of each other would leave (the band, 2 sd): ratio ${spread.spread_ratio ?? "undefined"}.`
      : `${capital(q.unit)}.`;
    tables.gates();
  }
  function markGates() {
    const atom = currentAtom();
    for (const bar of bars) bar.classList.toggle("on", atom !== null && (Number(bar.dataset.atom) === atom || (rowOf[atom] >= 0 && rowOf[atom] === rowOf[Number(bar.dataset.atom)])));
  }

  /* ---- heads ---- */
  function buildHeads() {
    const node = byId("heads"), q = quantity();
    if (!node || !q) return;
    const tap = q.name.replace(/\.norm_weighted$/, ""), list = page.heads.filter((head) => head.tap === tap);
    byId("heads-card").hidden = !list.length;
    const pieces = words.pieces.reduce((a, b) => a + b, 0);
    const line = (cells, kind) => el("tr", {}, ...cells.map((cell) => el(kind, kind === "th" ? { scope: "col" } : {}, cell)));
    node.replaceChildren(
      el("thead", {}, line(["head", "entropy / its maximum", "largest weight", "tokens above 0.1", "on special tokens and punctuation", "word furthest above uniform"], "th")),
      el("tbody", {}, ...list.map((head) => {
        const source = maps.find((one) => one.name === tap), uniform = source.controls[0];
        let best = -1, gap = 0;
        for (let i = 0; i < W; i += 1) {
          if (words.category[i] === "special" || words.punctuation[i]) continue;
          const more = raw(source, source, head.head + 1, -1, i) - raw(source, uniform, head.head + 1, -1, i);
          if (more > gap) { best = i; gap = more; }
        }
        const button = el("button", { type: "button" }, `head ${head.head}`);
        button.addEventListener("click", () => { byId("head").value = head.head + 1; state.head = head.head + 1; rebuild(); });
        const value = best < 0 ? 0 : raw(source, source, head.head + 1, -1, best), other = best < 0 ? 1 : raw(source, uniform, head.head + 1, -1, best);
        const row = line([button, String(head.normalized_entropy), String(head.max_weight), String(head.effective_tokens), String(head.sink_share), best < 0 ? "none" : el("bdi", {}, `${words.text[best]} ${written(value, source.decimals)} (×${(value / other).toFixed(2)})`)], "td");
        row.classList.toggle("on", state.head === head.head + 1);
        return row;
      }), line(["uniform attention", "1", (1 / pieces).toPrecision(3), pieces < 10 ? String(pieces) : "0", page.reading ? String(page.reading.special_and_punctuation_uniform) : "", ""], "td")));
  }

  /* ---- tables ---- */
  const cut = (q, atom, word) => written(raw(q, q, state.head, atom, word), q.decimals);
  const tables = {
    map: tableView(byId("map-table"), () => ({
      head: ["atoms", ...mapWords.map((i) => words.text[i])],
      rows: quantity() ? [...mapLines.map((line) => [line.label, ...mapWords.map((i) => cut(quantity(), line.row, i))]),
        ...quantity().controls.map((c) => [`control: ${c.label}`, ...mapWords.map((i) => (has(c, "atom") ? "" : written(raw(quantity(), c, state.head, 0, i), quantity().decimals)))])] : [],
    })),
    text: tableView(byId("text-table"), () => ({
      head: ["word", "category", "pieces", "uniform share", ...(quantity() ? [quantity().label] : [])],
      rows: words.text.map((text, i) => [text, words.category[i], words.pieces[i], words.uniform[i], ...(quantity() ? [cut(quantity(), currentAtom() === null ? -1 : rowOf[currentAtom()], i)] : [])]),
    })),
    crystal: tableView(byId("crystal-table"), () => ({
      head: ["atom", "element", "orbit", "x", "y", "z"],
      rows: atoms.label.map((label, i) => [label, atoms.element[i], atoms.orbit[i], ...page.crystal.positions[i]]),
    })),
    gates: byId("gates-table") ? tableView(byId("gates-table"), () => ({
      head: ["atom", "orbit", ...perAtom.map((q) => q.label)],
      rows: atoms.label.map((label, i) => [label, atoms.orbit[i], ...perAtom.map((q) => written(q.values[i], q.decimals))]),
    })) : () => {},
    flow: byId("flow-table") ? tableView(byId("flow-table"), () => ({
      head: ["stage", "distance between classes", ...page.flow.texts.flatMap((t) => [`${t.fusion}: own text`, "other texts", "sd"])],
      rows: page.flow.stages.map((stage, i) => [stage, page.flow.between_class_distance[i], ...page.flow.texts.flatMap((t) => [t.own[i], t.control[i], t.control_sd[i]])]),
    })) : () => {},
  };
  function fillTables() { tables.map(); tables.text(); }

  /* ---- controls ---- */
  function options(node, list, chosen) {
    node.replaceChildren(...list.map(([value, label]) => el("option", { value, selected: value === chosen }, label)));
    node.value = chosen;
  }
  function chooseQuantity() {
    const q = quantity();
    const heads = q.heads.map((label, i) => [String(i), label]);
    if (state.head >= heads.length) state.head = 0;
    options(byId("head"), heads.length ? heads : [["0", "no heads"]], String(state.head));
    byId("head").disabled = !heads.length;
    const against = [["", "nothing: the value itself"], ...q.controls.flatMap((c) => [...(q.signed ? [] : [[`over:${c.name}`, `× ${c.name.replaceAll("_", " ")}: how many times the control`]]), [`minus:${c.name}`, `− ${c.name.replaceAll("_", " ")}: difference to the control`]])];
    /* A ratio of values that can be negative says nothing. */
    if (q.signed || state.against === null || !against.some(([value]) => value === state.against)) state.against = q.controls.length && !q.signed ? `over:${q.controls[0].name}` : "";
    options(byId("against"), against, state.against);
  }
  function rebuild() { buildMap(); buildHeads(); light(); }

  function start() {
    buildText();
    if (maps.length) {
      options(byId("quantity"), maps.map((q, i) => [String(i), q.reaches_prediction ? q.label : `${q.label} (does not reach the prediction)`]), "0");
      chooseQuantity();
      byId("quantity").addEventListener("change", (event) => { if (quantity().signed) state.against = null; state.quantity = Number(event.target.value); chooseQuantity(); rebuild(); });
      byId("head").addEventListener("change", (event) => { state.head = Number(event.target.value); rebuild(); });
      byId("against").addEventListener("change", (event) => { state.against = event.target.value; rebuild(); });
      byId("all-words").checked = state.allWords;
      byId("all-words").parentElement.hidden = W <= 48;
      byId("all-words").addEventListener("change", (event) => { state.allWords = event.target.checked; rebuild(); });
      byId("split").parentElement.hidden = rows.every((group) => group.length < 2) || N > 200;
      byId("split").addEventListener("change", (event) => { state.split = event.target.checked; rebuild(); });
    }
    options(byId("colour-by"), [...(maps.length ? [["pointed", "the word pointed at"]] : []), ["element", "element"], ...perAtom.map((q) => [q.name, q.label])], maps.length ? "pointed" : "element");
    state.colourBy = byId("colour-by").value;
    byId("colour-by").addEventListener("change", (event) => { state.colourBy = event.target.value; drawCrystal(); });
    byId("closer").addEventListener("click", () => crystal.magnify(1.25));
    byId("farther").addEventListener("click", () => crystal.magnify(0.8));
    if (byId("gate-quantity")) {
      options(byId("gate-quantity"), perAtom.map((q, i) => [String(i), q.label]), "0");
      byId("gate-quantity").addEventListener("change", () => { buildGates(); markGates(); });
    }
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") { state.atom = state.word = state.pinnedAtom = state.pinnedWord = null; light(); } });
    buildGates();
    if (byId("flow")) CI.flow(byId("flow"), page.flow);
    theme(rebuild);
    rebuild();
    let resized = 0;
    window.addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(buildMap, 150); });
    document.documentElement.dataset.ready = "true";
  }
  /* What the page says in words is painted first. */
  requestAnimationFrame(() => setTimeout(start));
})();
