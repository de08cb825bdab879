// Returns {contrast: [...], unnamed: [...], wide: px}: texts that are hard to read, things without a name, overflow.

const problems = { contrast: [], unnamed: [], wide: document.documentElement.scrollWidth - innerWidth };
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

function rgb(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}

function luminance([r, g, b]) {
  const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}

function ground(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return rgb(getComputedStyle(document.documentElement).colorScheme.includes("dark") ? "black" : "white");
}

function ratio(a, b) {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

let checked = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("noscript")) continue;
  const style = getComputedStyle(element);
  const colour = rgb(element instanceof SVGElement ? style.fill : style.color);
  const found = ratio(colour, ground(element));
  checked += 1;
  if (found < 4.5) problems.contrast.push(`${walker.currentNode.data}: ${found.toFixed(2)}`);
}
for (const icon of document.querySelectorAll(".pill .icon, .mark .icon, .state .icon, .steps .icon")) {
  if (!icon.checkVisibility()) continue;
  if (ratio(rgb(getComputedStyle(icon).color), ground(icon)) < 3) problems.contrast.push(`icon ${icon.outerHTML}`);
}

for (const each of document.querySelectorAll("a, summary, table, section, nav, [role=img], [tabindex='0']")) {
  const by = each.getAttribute("aria-labelledby");
  const name = by ? document.getElementById(by)?.textContent : (each.getAttribute("aria-label") ?? each.textContent);
  if (!name?.trim()) problems.unnamed.push(each.outerHTML.slice(0, 120));
}
for (const pill of document.querySelectorAll(".pill")) {
  if (pill.checkVisibility() && !(pill.textContent.trim() && pill.querySelector("svg"))) problems.unnamed.push(pill.outerHTML);
}
return { ...problems, checked };
