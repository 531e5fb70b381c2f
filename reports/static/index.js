"use strict";
/* The index: search, filters and sorting over all structures; only the rows in view are in the document. */
(() => {
  const { byId, data, el, theme } = CI;
  const HEIGHT = 34, BEYOND = 8;
  const columns = [
    ["formula", "Formula", "1.1fr"], ["id", "Id", "1.6fr"], ["atoms", "Atoms", "56px"], ["space_group", "Space group", "96px"],
    ["prediction", "Prediction", "88px"], ["target", "Target", "80px"], ["error", "Error", "80px"], ["verdict", "Verdict", "92px"],
    ["reading", "Reading", "120px"], ["words", "Stands out", "2fr"], ["codes", "Rules", "1fr"],
  ];
  const numeric = new Set(["atoms", "prediction", "target", "error"]);
  const page = data();
  const rows = page.rows.map((values) => Object.fromEntries(page.columns.map((name, i) => [name, values[i]])));
  for (const row of rows) row.hay = `${row.id}\n${row.formula}\n${row.space_group}\n${row.words}\n${row.text}\n${row.codes.join(" ")}`.toLowerCase();
  let found = rows, sort = { by: null, down: false };
  const list = byId("list"), head = el("div", { className: "list-row list-head", role: "row" }), body = el("div", { role: "rowgroup" });
  list.style.setProperty("--columns", columns.map(([, , size]) => size).join(" "));
  body.style.position = "relative";
  for (const [name, label] of columns) {
    const button = el("button", { type: "button" }, label);
    button.dataset.column = name;
    button.addEventListener("click", () => { sort = { by: name, down: sort.by === name ? !sort.down : name === "error" }; update(); });
    head.append(el("span", { className: numeric.has(name) ? "n" : "", role: "columnheader" }, button));
  }
  head.style.position = "sticky";
  list.append(head, body);

  function cell(row, name) {
    if (name === "formula" || name === "id") return el("a", { href: `structures/${encodeURIComponent(row.name)}.html`, title: row[name] }, el("bdi", {}, row[name] || "(empty)"));
    const value = row[name];
    if (name === "codes") return value.join(" ");
    return value === null ? "" : String(value);
  }
  function line(row, at) {
    const node = el("div", { className: "list-row", role: "row" }, ...columns.map(([name]) => {
      const box = el("span", { role: "cell", className: numeric.has(name) ? "n" : name === "verdict" ? row.verdict : "" }, cell(row, name));
      if (name === "words" || name === "reading") box.title = row[name] || "";
      return box;
    }));
    node.dataset.id = row.id;
    node.setAttribute("aria-rowindex", at + 2);
    node.style.top = `${at * HEIGHT}px`;
    return node;
  }
  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - BEYOND), last = Math.min(found.length, first + Math.ceil((list.clientHeight || 600) / HEIGHT) + 2 * BEYOND);
    body.style.height = `${found.length * HEIGHT}px`;
    body.replaceChildren(...found.slice(first, last).map((row, i) => line(row, first + i)));
  }
  function update() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const elements = byId("elements").value.split(/[\s,;]+/).filter(Boolean).map((symbol) => symbol[0].toUpperCase() + symbol.slice(1).toLowerCase());
    const verdict = byId("verdict").value, reading = byId("reading").value, rule = byId("rule").value, least = Number(byId("least").value) || 0;
    found = rows.filter((row) => words.every((word) => row.hay.includes(word)) && elements.every((symbol) => row.elements.includes(symbol))
      && (!verdict || row.verdict === verdict) && (!reading || row.reading === reading) && (!rule || row.codes.includes(rule)) && (!least || Math.abs(row.error ?? 0) >= least));
    if (sort.by) {
      const key = (row) => { const v = row[sort.by]; return sort.by === "error" && v !== null ? Math.abs(v) : Array.isArray(v) ? v.join(" ") : v; };
      const way = sort.down ? -1 : 1;
      found = found.map((row) => [key(row), row]).sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return way * (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
      }).map(([, row]) => row);
    }
    for (const button of head.querySelectorAll("button")) button.parentElement.setAttribute("aria-sort", sort.by === button.dataset.column ? (sort.down ? "descending" : "ascending") : "none");
    byId("count").textContent = `${found.length} of ${rows.length}`;
    list.setAttribute("aria-rowcount", found.length + 1);
    list.scrollTop = 0;
    draw();
  }
  function choices(id, name) {
    const values = [...new Set(rows.flatMap((row) => row[name]))].filter(Boolean).sort();
    byId(id).replaceChildren(el("option", { value: "" }, "any"), ...values.map((value) => el("option", { value }, value)));
  }
  choices("verdict", "verdict"); choices("reading", "reading"); choices("rule", "codes");
  for (const id of ["search", "elements", "verdict", "reading", "rule", "least"]) byId(id).addEventListener("input", update);
  list.addEventListener("scroll", draw);
  window.addEventListener("resize", draw);
  theme(draw);
  update();
  document.documentElement.dataset.ready = "true";
})();
