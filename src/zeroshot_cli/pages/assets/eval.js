// Confusion matrices, drawn on a canvas, and lists of classes, sorted and filtered. Names become text, never markup.
for (const article of document.querySelectorAll("article[data-labels]")) {
  const data = JSON.parse(article.querySelector("script[type='application/json']").textContent);
  drawConfusion(article, data);
  listClasses(article, data);
}

// The orders of classes: functions that return all indices.
function ordersOf({ labels, counts, recalls, cells }) {
  const all = labels.map((_, index) => index), recall = (index, none) => recalls[index] ?? none;
  return {
    index: () => all,
    lowest: () => all.toSorted((a, b) => recall(a, 2) - recall(b, 2) || a - b),
    highest: () => all.toSorted((a, b) => recall(b, -1) - recall(a, -1) || a - b),
    images: () => all.toSorted((a, b) => counts[b] - counts[a] || a - b),
    name: () => all.toSorted((a, b) => labels[a].localeCompare(labels[b]) || a - b),
    alike: () => alike(labels.length, cells),
  };
}

// Chains of classes: the two that are confused most are joined first, end to end if they are ends.
function alike(size, cells) {
  const both = new Map();
  for (const [row, column, n] of cells) {
    const pair = Math.min(row, column) * size + Math.max(row, column);
    if (row !== column) both.set(pair, (both.get(pair) || 0) + n);
  }
  const chains = Array.from({ length: size }, (_, index) => [index]);
  for (const [pair] of [...both].sort((a, b) => b[1] - a[1] || a[0] - b[0])) {
    const first = Math.floor(pair / size), second = pair % size, one = chains[first], other = chains[second];
    if (one === other) continue;
    if (one[0] === first) one.reverse();
    if (other.at(-1) === second) other.reverse();
    const joined = [...one, ...other];
    for (const index of joined) chains[index] = joined;
  }
  return [...new Set(chains)].flat();
}

function drawConfusion(article, data) {
  const { labels, counts, cells } = data, size = labels.length, orders = ordersOf(data);
  const canvas = article.querySelector("canvas"), tip = article.querySelector(".tip");
  const at = new Map(cells.map(([row, column, n, images]) => [row * size + column, { row, column, n, images }]));
  const view = { x: 0, y: 0, shown: size, order: orders.index(), place: [] }; // its corner, and the number of classes along an edge
  let cursor = null; // the cell that the keyboard is at: places of its column and row
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const NAMES = 0.26, ROOM = 8.5; // names take at most this share, and are drawn if a class has this many pixels
  const SMALL = 12; // pixels under which a cell is hard to hit

  const measure = canvas.getContext("2d");
  measure.font = "12px system-ui, sans-serif";
  const longest = Math.max(...labels.map(label => measure.measureText(label.slice(0, 100)).width)) + 10;

  // In CSS pixels: the width of a class, and where the first one begins.
  function geometry() {
    const width = canvas.clientWidth, names = Math.min(longest, width * NAMES);
    const start = (width - names) / view.shown >= ROOM ? names : 0;
    return { width, start, step: (width - start) / view.shown };
  }

  function colours(...names) {
    const probe = article.appendChild(document.createElement("i"));
    const found = names.map(name => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; });
    probe.remove();
    return found;
  }

  function draw() {
    const { width, start, step } = geometry(), context = canvas.getContext("2d");
    const [right, wrong, ground, text] = colours("--right", "--wrong", "--well", "--text");
    canvas.width = canvas.height = Math.round(width * devicePixelRatio);
    canvas.style.touchAction = view.shown < size ? "none" : "pan-y"; // the page scrolls over a matrix that is shown whole
    context.scale(canvas.width / width, canvas.width / width);
    context.fillStyle = ground;
    context.fillRect(start, start, width, width);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.save();
    context.beginPath();
    context.rect(start, start, width, width);
    context.clip();
    for (const [row, column, n] of cells) {
      const x = start + (view.place[column] - view.x) * step, y = start + (view.place[row] - view.y) * step;
      if (x < start - step || y < start - step || x > width || y > width) continue;
      const edge = Math.max(step - (step > 6 ? 1 : 0), 1.6), share = n / counts[row], least = step > 6 ? 0.18 : 0.5;
      context.globalAlpha = least + (1 - least) * share;
      context.fillStyle = row === column ? right : wrong;
      context.fillRect(x, y, edge, edge);
      context.globalAlpha = 1;
      if (step < 26) continue;
      context.fillStyle = legibleOn(row === column ? right : wrong, ground, least + (1 - least) * share);
      context.textAlign = "center";
      context.fillText(n.toLocaleString(), x + step / 2, y + step / 2, step - 4);
    }
    if (cursor) {
      context.strokeStyle = text;
      context.lineWidth = 2;
      const [x, y] = [cursor[0] - view.x, cursor[1] - view.y].map(place => start + place * step);
      context.strokeRect(x, y, Math.max(step, 4), Math.max(step, 4));
    }
    context.restore();
    if (start) drawNames(context, start, step, text);
  }

  function drawNames(context, start, step, text) {
    context.fillStyle = text;
    context.font = `${Math.min(12, step + 0.5)}px system-ui, sans-serif`;
    const cut = label => {
      if (context.measureText(label).width <= start - 8) return label;
      let length = label.length;
      while (length && context.measureText(`${label.slice(0, length)}…`).width > start - 8) length--;
      return `${label.slice(0, length)}…`;
    };
    for (let index = Math.ceil(view.x - 0.5); index + 0.5 <= view.x + view.shown; index++) {
      context.save();
      context.translate(start + (index + 0.5 - view.x) * step, start - 5);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillText(cut(labels[view.order[index]]), 0, 0);
      context.restore();
    }
    context.textAlign = "right";
    for (let index = Math.ceil(view.y - 0.5); index + 0.5 <= view.y + view.shown; index++)
      context.fillText(cut(labels[view.order[index]]), start - 5, start + (index + 0.5 - view.y) * step);
  }

  // The pointer's position in the order of classes, as fractions.
  function placeOf(event) {
    const box = canvas.getBoundingClientRect(), { start, step } = geometry();
    return [(event.clientX - box.left - start) / step + view.x, (event.clientY - box.top - start) / step + view.y];
  }

  function zoom(factor, x, y) {
    const before = view.shown;
    view.shown = clamp(before * factor, Math.min(size, 5), size);
    const share = view.shown / before;
    move(x - (x - view.x) * share, y - (y - view.y) * share);
  }

  function move(x, y) {
    [view.x, view.y] = [x, y].map(value => clamp(value, 0, size - view.shown));
    draw();
  }

  // The cell at a place; where cells are too small to be hit, the nearest one that is not empty.
  function cellAt([x, y]) {
    if (x < view.x || y < view.y || x >= size || y >= size) return null;
    const row = view.order[Math.floor(y)], column = view.order[Math.floor(x)];
    const found = at.get(row * size + column), { step } = geometry();
    if (found || step >= SMALL) return found ?? { row, column, n: 0, images: [] };
    const away = cell => Math.hypot(view.place[cell.column] + 0.5 - x, view.place[cell.row] + 0.5 - y);
    const near = [...at.values()].filter(cell => away(cell) * step < SMALL);
    return near.sort((a, b) => away(a) - away(b))[0] ?? { row, column, n: 0, images: [] };
  }

  function say(cell) {
    canvas.style.cursor = cell?.n ? "pointer" : "crosshair";
    tip.textContent = cell ? sentence(cell) : explained;
  }

  function sentence({ row, column, n }) {
    return row === column
      ? `${labels[row]}: ${n} of ${counts[row]} right`
      : `${labels[row]} taken for ${labels[column]}: ${n} of ${counts[row]}`;
  }

  function open(cell) {
    if (!cell?.n) return;
    const title = cell.row === cell.column ? `${labels[cell.row]}, right` : `${labels[cell.row]} taken for ${labels[cell.column]}`;
    const detail = { title, count: `${whole(cell.n)} of ${plural(counts[cell.row], "image")}`, images: cell.images };
    article.dispatchEvent(new CustomEvent("cell", { detail, bubbles: true }));
  }

  // Move the keyboard's cell, and the view after it.
  function step([right, down]) {
    const [x, y] = cursor ?? [Math.floor(view.x), Math.floor(view.y)];
    cursor = cursor ? [clamp(x + right, 0, size - 1), clamp(y + down, 0, size - 1)] : [x, y];
    const follow = (corner, place) => clamp(corner, place + 1 - view.shown, place);
    move(follow(view.x, cursor[0]), follow(view.y, cursor[1]));
    say(cellAt(cursor.map(place => place + 0.5)));
  }

  function arrange(name) {
    view.order = orders[name]();
    view.order.forEach((index, place) => { view.place[index] = place; });
    cursor = null;
    draw();
  }

  const small = size <= 5, middle = () => [view.x + view.shown / 2, view.y + view.shown / 2];
  const explained = "Rows are true classes, columns predicted ones; right answers are green. Click a cell for its images."
    + (small ? "" : " Zoom with the buttons, or Ctrl and the wheel; drag to move.");
  let from = null, dragged = false;
  canvas.addEventListener("pointerdown", event => {
    from = [event.clientX, event.clientY, view.x, view.y];
    dragged = false;
    canvas.setPointerCapture(event.pointerId);
    say(cellAt(placeOf(event)));
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
  canvas.addEventListener("pointermove", event => {
    const { step } = geometry();
    if (from && Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 4) dragged = true;
    if (from && dragged) move(from[2] - (event.clientX - from[0]) / step, from[3] - (event.clientY - from[1]) / step);
    say(cellAt(placeOf(event)));
  });
  canvas.addEventListener("pointerleave", () => say(null));
  canvas.addEventListener("click", event => { if (!dragged) open(cellAt(placeOf(event))); });
  canvas.addEventListener("wheel", event => {
    if (small || !(event.ctrlKey || event.metaKey)) return; // otherwise the page could not be scrolled
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, ...placeOf(event));
  }, { passive: false });
  for (const button of article.querySelectorAll("[data-zoom]")) {
    button.hidden = small;
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom), ...middle()));
  }
  canvas.addEventListener("keydown", event => {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const factor = { "+": 0.5, "-": 2 }[event.key];
    const entered = event.key === "Enter" && cursor;
    if (!direction && !factor && !entered) return;
    event.preventDefault(); // so that Enter does not press the dialog's button, too
    if (entered) open(cellAt(cursor.map(place => place + 0.5)));
    else if (factor) zoom(factor, ...(cursor ?? middle()));
    else step(direction.map(each => each * (event.shiftKey ? 10 : 1)));
  });
  canvas.addEventListener("blur", () => { if (!document.querySelector("dialog[open]")) { cursor = null; draw(); } });
  for (const number of article.querySelectorAll("[data-cell]")) {
    const [row, column] = number.dataset.cell.split(" ").map(Number), cell = at.get(row * size + column);
    const made = button(number.textContent, () => open(cell));
    made.classList.add("small");
    made.setAttribute("aria-label", `${sentence(cell)}; show them`);
    number.replaceWith(made);
  }
  const order = article.querySelector(".matrix-order");
  order.addEventListener("change", () => arrange(order.value));
  arrange(order.value);
  say(null);
  new ResizeObserver(draw).observe(canvas);
  document.addEventListener("themechange", draw);
}

// Black or white, whichever has more contrast on a colour that is laid on another, both as rgb(): at least 4.5 to 1.
function legibleOn(colour, ground, share) {
  const [above, below] = [colour, ground].map(each => each.match(/[\d.]+/g).map(Number));
  const linear = above.slice(0, 3).map((value, place) => {
    const mixed = (value * share + below[place] * (1 - share)) / 255;
    return mixed <= 0.04045 ? mixed / 12.92 : ((mixed + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return luminance > 0.179 ? "#000" : "#fff";
}

function listClasses(article, data) {
  const { labels, counts, recalls, lows, highs } = data, orders = ordersOf(data);
  const list = article.querySelector(".classes"), filter = article.querySelector("input"), order = article.querySelector(".class-order");
  function row(index) {
    const item = element("li"), track = element("span", "track"), has = recalls[index] !== null;
    const name = element("span", "name", labels[index]);
    name.title = labels[index];
    if (has) {
      track.append(element("i"), element("b"));
      track.firstChild.style.width = `${100 * recalls[index]}%`;
      track.lastChild.style.left = `${100 * lows[index]}%`;
      track.lastChild.style.width = `${100 * (highs[index] - lows[index])}%`;
    }
    item.append(name, track, element("span", "number", has ? `${(100 * recalls[index]).toFixed(1)} % of ${counts[index]}` : "no images"));
    return item;
  }
  function fill() {
    const wanted = filter.value.trim().toLowerCase();
    list.replaceChildren(...orders[order.value]().filter(index => labels[index].toLowerCase().includes(wanted)).map(row));
  }
  filter.addEventListener("input", fill);
  order.addEventListener("change", fill);
  fill();
}
