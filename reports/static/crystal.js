"use strict";
/* A unit cell on a canvas: cell, atoms, bonds; turned by dragging or by keys, drawn from back to front.
   view: what the page decides. colourOf(atom): rgb or null; chosen(): atom or null; alike(a, b): drawn as one;
   point(atom), pick(atom): the pointer is on an atom, or clicked it; step(atom): a key chose it. */
CI.crystal = (canvas, page, view) => {
  const { css, inkOn } = CI;
  const atoms = page.atoms, N = atoms.label.length, context = canvas.getContext("2d");
  const cell = page.crystal.cell, flat = page.crystal.bonds, radii = page.crystal.radii;
  const place = (f) => [0, 1, 2].map((k) => f[0] * cell[0][k] + f[1] * cell[1][k] + f[2] * cell[2][k]);
  const centre = place([0.5, 0.5, 0.5]);
  const balls = [], sticks = [], edges = [], index = new Map();
  const near = 0.02;
  page.crystal.positions.forEach((f, atom) => {
    /* Atoms on a face, an edge or a corner are drawn on all of them, unless there are too many atoms to see. */
    const ranges = f.map((x) => (N > 300 ? [0] : x < near ? [0, 1] : x > 1 - near ? [-1, 0] : [0]));
    for (const a of ranges[0]) for (const b of ranges[1]) for (const c of ranges[2]) {
      index.set(`${atom},${a},${b},${c}`, balls.length);
      balls.push({ atom, at: place([f[0] + a, f[1] + b, f[2] + c]), shift: [a, b, c], radius: 0.28 + 0.25 * radii[atoms.element[atom]] });
    }
  });
  /* Bonded neighbours beyond the cell complete the surroundings of the atoms in it; many would only hide it. */
  const inside = balls.slice(), beyond = N <= 40;
  const bond = (ball, other, shift) => {
    const key = `${other},${shift}`, known = index.get(key);
    if (known !== undefined) { sticks.push([ball, balls[known]]); return; }
    const ghost = { atom: other, at: place(page.crystal.positions[other].map((x, k) => x + shift[k])), shift, radius: 0.2, ghost: true };
    if (!beyond) { sticks.push([ball, { at: ball.at.map((x, k) => (x + ghost.at[k]) / 2) }]); return; }
    index.set(key, balls.length);
    balls.push(ghost);
    sticks.push([ball, ghost]);
  };
  const bondsOf = Array.from({ length: N }, () => []);
  for (let k = 0; k < flat.length; k += 5) {
    const step = [flat[k + 2], flat[k + 3], flat[k + 4]];
    bondsOf[flat[k]].push([flat[k + 1], step, true]);
    bondsOf[flat[k + 1]].push([flat[k], step.map((x) => -x), false]);
  }
  for (const ball of inside) {
    const own = ball.shift.every((x) => x === 0);
    for (const [other, step, forward] of bondsOf[ball.atom]) {
      const shift = ball.shift.map((x, i) => x + step[i]), known = balls[index.get(`${other},${shift}`)];
      /* A bond between two atoms in the cell is drawn from its first atom, one that leaves it from the atom in it. */
      if (known && !known.ghost ? forward : own) bond(ball, other, shift);
    }
  }
  const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => place([i & 1, (i >> 1) & 1, (i >> 2) & 1]));
  for (let i = 0; i < 8; i += 1) for (const bit of [1, 2, 4]) if (!(i & bit)) edges.push([corners[i], corners[i | bit]]);
  const away = (p) => Math.hypot(...p.map((x, k) => x - centre[k]));
  const reach = [...corners, ...balls.map((ball) => ball.at)].reduce((most, p) => Math.max(most, away(p)), 0) + 0.6;
  let turn = multiply(about(0, -1.25), about(2, 0.5)), zoom = 1, drawn = [], drag = null, waiting = false;

  function about(axis, angle) {
    const c = Math.cos(angle), s = Math.sin(angle);
    return axis === 0 ? [[1, 0, 0], [0, c, -s], [0, s, c]] : axis === 1 ? [[c, 0, s], [0, 1, 0], [-s, 0, c]] : [[c, -s, 0], [s, c, 0], [0, 0, 1]];
  }
  function multiply(a, b) {
    return a.map((row) => [0, 1, 2].map((k) => row[0] * b[0][k] + row[1] * b[1][k] + row[2] * b[2][k]));
  }
  function paint() {
    waiting = false;
    const ratio = window.devicePixelRatio || 1, wide = canvas.clientWidth, high = canvas.clientHeight;
    if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
      canvas.width = Math.round(wide * ratio); canvas.height = Math.round(high * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, wide, high);
    const size = (zoom * Math.min(wide, high)) / (2 * reach);
    const seen = (p) => {
      const d = p.map((x, k) => x - centre[k]);
      return [wide / 2 + size * (turn[0][0] * d[0] + turn[0][1] * d[1] + turn[0][2] * d[2]), high / 2 - size * (turn[1][0] * d[0] + turn[1][1] * d[1] + turn[1][2] * d[2]), turn[2][0] * d[0] + turn[2][1] * d[1] + turn[2][2] * d[2]];
    };
    const style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--ink"), faint = style.getPropertyValue("--faint"), accent = style.getPropertyValue("--accent");
    const things = edges.map(([a, b]) => ({ a: seen(a), b: seen(b), edge: true }));
    drawn = balls.map((ball) => ({ ball, at: seen(ball.at) }));
    for (const [a, b] of sticks) things.push({ a: seen(a.at), b: seen(b.at) });
    const depth = (thing) => (thing.ball ? thing.at[2] : (thing.a[2] + thing.b[2]) / 2);
    const chosen = view.chosen();
    context.lineCap = "round";
    for (const thing of [...things, ...drawn].sort((a, b) => depth(a) - depth(b))) {
      if (thing.ball) {
        const { atom, radius } = thing.ball, rgb = view.colourOf(atom), r = Math.max(2.5, radius * size);
        context.beginPath();
        context.arc(thing.at[0], thing.at[1], r, 0, 2 * Math.PI);
        context.fillStyle = style.getPropertyValue("--card");
        context.fill();
        context.globalAlpha = thing.ball.ghost ? 0.55 : 1;
        context.fillStyle = rgb ? css(rgb) : style.getPropertyValue("--card");
        context.fill();
        const on = chosen !== null && view.alike(atom, chosen);
        context.strokeStyle = on ? accent : ink;
        context.lineWidth = on ? 4 : 1;
        context.stroke();
        context.globalAlpha = 1;
        if (r > 9 && N <= 60 && !thing.ball.ghost) {
          context.fillStyle = rgb ? inkOn(rgb) : ink;
          context.font = `600 ${Math.min(13, Math.max(9, r * 0.8))}px system-ui, sans-serif`;
          context.textAlign = "center"; context.textBaseline = "middle";
          context.fillText(r > 15 ? atoms.label[atom] : atoms.element[atom], thing.at[0], thing.at[1] + 0.5);
        }
      } else {
        context.beginPath();
        context.moveTo(thing.a[0], thing.a[1]); context.lineTo(thing.b[0], thing.b[1]);
        context.strokeStyle = faint;
        context.lineWidth = thing.edge ? 1 : Math.max(1.5, 0.12 * size);
        context.setLineDash(thing.edge ? [4, 4] : []);
        context.stroke();
        context.setLineDash([]);
      }
    }
    canvas.dataset.turn = turn.flat().map((x) => x.toFixed(3)).join(" ");
  }
  function draw() {
    if (!waiting) { waiting = true; requestAnimationFrame(paint); }
  }
  function magnify(factor) { zoom = Math.min(6, Math.max(0.4, zoom * factor)); draw(); }
  function spin(dx, dy) { turn = multiply(multiply(about(1, dx), about(0, dy)), turn); draw(); }
  function pick(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const size = (zoom * Math.min(canvas.clientWidth, canvas.clientHeight)) / (2 * reach);
    let best = null;
    for (const thing of drawn) {
      const inside = Math.hypot(x - thing.at[0], y - thing.at[1]) <= Math.max(5, thing.ball.radius * size);
      if (inside && (!best || thing.at[2] > best.at[2])) best = thing;
    }
    return best ? best.ball.atom : null;
  }
  canvas.addEventListener("pointerdown", (event) => { drag = [event.clientX, event.clientY, 0]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) { view.point(pick(event)); return; }
    const dx = event.clientX - drag[0], dy = event.clientY - drag[1];
    drag = [event.clientX, event.clientY, drag[2] + Math.abs(dx) + Math.abs(dy)];
    spin(0.01 * dx, 0.01 * dy);
  });
  canvas.addEventListener("pointerup", (event) => { if (drag && drag[2] < 4) view.pick(pick(event)); drag = null; });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { if (!drag) view.point(null); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
    const next = { n: 1, p: -1 }[event.key];
    if (step) { event.preventDefault(); spin(...step); }
    else if (event.key === "+" || event.key === "=") magnify(1.2);
    else if (event.key === "-") magnify(1 / 1.2);
    else if (next) { const from = view.chosen(); view.step(from === null ? 0 : (from + next + N) % N); }
  });
  window.addEventListener("resize", draw);
  return { draw, magnify };
};
