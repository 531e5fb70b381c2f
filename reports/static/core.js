"use strict";
/* What every page shares: colour scales, the heat map, tables, the theme. No library, no network. */
const CI = (() => {
  const byId = (id) => document.getElementById(id);

  function el(name, properties = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in node && key !== "list") node[key] = value;
      else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  }

  function data(id = "data") {
    return JSON.parse(byId(id).textContent);
  }

  /* Numbers are stored as whole numbers of their last decimal, so that they are written as in the files. */
  function written(number, decimals) {
    return number === null || number === undefined ? "undefined" : (number / 10 ** decimals).toFixed(decimals);
  }

  /* Colours are mixed in OKLab (Ottosson 2020), where equal steps look equal, and the stops lie at their own
     lightness: lightness runs evenly along the scale, which is what any form of colour blindness leaves. */
  const STOPS = {
    light: { sequential: ["#f6f8fb", "#a9cbe8", "#3d84c6", "#0f3a73"], low: "#4c2a92", middle: "#f7f7f5", high: "#9a4300" },
    dark: { sequential: ["#171c22", "#1d4f86", "#5aa5e0", "#e6f3ff"], low: "#b7a4ff", middle: "#22272e", high: "#ffb45e" },
  };
  const STEPS = 256;

  function toLab(hex) {
    const [r, g, b] = [1, 3, 5].map((at) => {
      const c = parseInt(hex.slice(at, at + 2), 16) / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
    const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
    const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
    return [
      0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
      1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
      0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
    ];
  }

  function toRgb([L, a, b]) {
    const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
    return [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ].map((c) => {
      const v = c <= 0.0031308 ? 12.92 * c : 1.055 * Math.max(c, 0) ** (1 / 2.4) - 0.055;
      return Math.round(255 * Math.min(1, Math.max(0, v)));
    });
  }

  function ramp(stops, steps) {
    const labs = stops.map(toLab);
    const first = labs[0][0], span = labs[labs.length - 1][0] - first;
    const places = labs.map((lab) => (lab[0] - first) / span);
    return Array.from({ length: steps }, (_, step) => {
      const t = step / (steps - 1);
      let i = 1;
      while (i < places.length - 1 && places[i] < t) i += 1;
      const share = (t - places[i - 1]) / (places[i] - places[i - 1]);
      return toRgb(labs[i].map((value, k) => labs[i - 1][k] + share * (value - labs[i - 1][k])));
    });
  }

  const ramps = {};
  function rampOf(kind) {
    const theme = isDark() ? "dark" : "light", key = `${theme}.${kind}`;
    if (!ramps[key]) {
      const { sequential, low, middle, high } = STOPS[theme];
      ramps[key] = kind === "sequential" ? ramp(sequential, STEPS)
        : [...ramp([middle, low], STEPS / 2).reverse(), ...ramp([middle, high], STEPS / 2)];
    }
    return ramps[key];
  }

  /* A scale: {kind, span, format}. Sequential runs from 0 to span, diverging from -span to span. */
  function colour(scale, value) {
    if (value === null || !Number.isFinite(value)) return null;
    const share = scale.kind === "sequential" ? value / scale.span : 0.5 + value / (2 * scale.span);
    return rampOf(scale.kind)[Math.round((STEPS - 1) * Math.min(1, Math.max(0, share)))];
  }
  const css = (rgb) => (rgb ? `rgb(${rgb[0]},${rgb[1]},${rgb[2]})` : "transparent");
  const inkOn = (rgb) => (!rgb ? "" : 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 140 ? "#10151a" : "#ffffff");

  function legend(node, scale, caption) {
    const canvas = el("canvas", { width: 256, height: 1, className: "ramp", role: "img" });
    const context = canvas.getContext("2d");
    rampOf(scale.kind).forEach((rgb, x) => {
      context.fillStyle = css(rgb);
      context.fillRect((x * 256) / STEPS, 0, 2, 1);
    });
    const ends = scale.kind === "sequential" ? [0, scale.span / 2, scale.span] : [-scale.span, 0, scale.span];
    const ticks = ends.map((value) => scale.format(value));
    canvas.setAttribute("aria-label", `colour scale from ${ticks[0]} to ${ticks[2]}: ${caption}`);
    node.replaceChildren(canvas, el("div", { className: "ticks" }, ...ticks.map((t) => el("span", {}, t))),
      el("div", { className: "caption" }, caption));
  }

  /* A heat map with labels that stay in view.
     options: rows, columns: labels; value(r, c): number or null; scale; separators: rows with a line above;
     marked: {row, column} drawn with a frame; point(r, c, pinned): called with null when the pointer leaves;
     pick(row or null, column or null): a label was chosen. Returns {draw, focus}. */
  function heatmap(node, options) {
    const rows = options.rows.length, columns = options.columns.length;
    const height = rows > 60 ? 14 : rows > 16 ? 18 : 24;
    const width = Math.max(15, Math.min(40, Math.floor((node.clientWidth - 150) / Math.max(1, columns))));
    const canvas = el("canvas", { className: "cells", tabIndex: 0, role: "img" });
    canvas.setAttribute("aria-label", options.label);
    canvas.setAttribute("aria-describedby", options.describedBy || "");
    const button = (text, r, c) => {
      const label = el("button", { type: "button", className: "label", title: text }, el("bdi", {}, text || "(empty)"));
      label.tabIndex = -1;
      label.addEventListener("click", () => options.pick(r, c));
      label.addEventListener("pointerenter", () => options.point(r, c));
      label.addEventListener("pointerleave", () => options.point(null, null));
      return label;
    };
    const left = el("div", { className: "rows" }, ...options.rows.map((text, r) => button(text, r, null)));
    const top = el("div", { className: "columns" }, ...options.columns.map((text, c) => button(text, null, c)));
    left.style.gridAutoRows = `${height}px`;
    top.style.gridAutoColumns = `${width}px`;
    node.replaceChildren(el("div", { className: "corner" }), top, left, canvas);
    const ratio = Math.min(2, window.devicePixelRatio || 1, Math.sqrt(6e7 / Math.max(1, rows * height * columns * width)));
    canvas.width = Math.ceil(columns * width * ratio);
    canvas.height = Math.ceil(rows * height * ratio);
    canvas.style.width = `${columns * width}px`;
    canvas.style.height = `${rows * height}px`;
    let cursor = null;

    function draw(marked = {}) {
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, columns * width, rows * height);
      for (let r = 0; r < rows; r += 1) {
        for (let c = 0; c < columns; c += 1) {
          const rgb = colour(options.scale, options.value(r, c));
          if (!rgb) continue;
          context.fillStyle = css(rgb);
          context.fillRect(c * width, r * height, width - 1, height - 1);
        }
      }
      const style = getComputedStyle(document.documentElement);
      context.fillStyle = style.getPropertyValue("--ink");
      for (const r of options.separators || []) context.fillRect(0, r * height - 1, columns * width, 1);
      context.strokeStyle = style.getPropertyValue("--accent");
      context.lineWidth = 2;
      if (marked.row !== null && marked.row >= 0) context.strokeRect(1, marked.row * height, columns * width - 3, height - 1);
      if (marked.column !== null && marked.column >= 0) context.strokeRect(marked.column * width, 1, width - 1, rows * height - 3);
      [...left.children].forEach((label, r) => label.classList.toggle("on", r === marked.row));
      [...top.children].forEach((label, c) => label.classList.toggle("on", c === marked.column));
    }

    const cellAt = (event) => {
      const box = canvas.getBoundingClientRect();
      const c = Math.floor((event.clientX - box.left) / width), r = Math.floor((event.clientY - box.top) / height);
      return r >= 0 && c >= 0 && r < rows && c < columns ? [r, c] : [null, null];
    };
    canvas.addEventListener("pointermove", (event) => options.point(...cellAt(event)));
    canvas.addEventListener("pointerleave", () => options.point(null, null));
    canvas.addEventListener("click", (event) => options.pick(...cellAt(event)));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (step && rows && columns) {
        event.preventDefault();
        cursor = cursor ? [Math.min(rows - 1, Math.max(0, cursor[0] + step[0])), Math.min(columns - 1, Math.max(0, cursor[1] + step[1]))] : [0, 0];
        options.point(...cursor);
        const scroller = node.parentElement;
        if (scroller) scroller.scrollLeft = Math.max(0, cursor[1] * width - scroller.clientWidth / 2 + 150);
      } else if (event.key === "Enter" && cursor) options.pick(...cursor);
      else if (event.key === "Escape") { cursor = null; options.point(null, null); options.pick(null, null); }
    });
    return { draw, canvas, width, height };
  }

  /* The numbers of a picture as a table, made when it is opened. content(): {head: [], rows: [[]]}. */
  function tableView(node, content) {
    const box = el("div", { className: "scroll" });
    node.append(box);
    const fill = () => {
      if (!node.open) return;
      const { head, rows } = content();
      const line = (kind, cells) => el("tr", {}, ...cells.map((cell, i) =>
        el(kind === "th" || i === 0 ? "th" : "td", kind === "th" ? { scope: "col" } : i === 0 ? { scope: "row" } : {}, el("bdi", {}, String(cell ?? "")))));
      box.replaceChildren(el("table", {}, el("thead", {}, line("th", head)), el("tbody", {}, ...rows.map((cells) => line("td", cells)))));
    };
    node.addEventListener("toggle", fill);
    return fill;
  }

  const listeners = [];
  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : preferred.matches;
  }
  function theme(redraw) {
    listeners.push(redraw);
    const button = byId("theme");
    const say = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    const changed = () => { say(); listeners.forEach((listener) => listener()); };
    try {
      const known = localStorage.getItem("crystal-interpret-theme");
      if (known === "dark" || known === "light") document.documentElement.dataset.theme = known;
    } catch { /* A page opened from a file may have no storage. */ }
    button.addEventListener("click", () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("crystal-interpret-theme", document.documentElement.dataset.theme); } catch { /* likewise */ }
      changed();
    });
    preferred.addEventListener("change", changed);
    say();
  }

  return { byId, colour, css, data, el, heatmap, inkOn, isDark, legend, rampOf, tableView, theme, written };
})();
