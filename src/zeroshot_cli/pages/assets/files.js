// Originals of images, in pages that are files: links to them, relative to the page where the run's path was, and their
// paths to copy. shared.js precedes this.
function linkTo(address, className, text) {
  const link = element("a", className, text);
  link.href = address;
  link.target = "_blank";
  link.rel = "noopener";
  return link;
}

// The whole path, if the page is a file as the image is; else as the run has it.
function pathOf(link, given) {
  const { protocol, pathname } = new URL(link.href);
  if (protocol !== "file:") return given;
  try {
    const path = decodeURIComponent(pathname);
    return /^\/[A-Za-z]:\//.test(path) ? path.slice(1).replaceAll("/", "\\") : path;
  } catch {
    return given; // a name that is not UTF-8
  }
}

// Beside the name of each image on the page, and of those that a script adds later: its path to copy.
function copyButton(link, given) {
  const made = button("Copy the path", () => copy(pathOf(link, given), made));
  made.classList.add("small");
  made.setAttribute("aria-label", `Copy the path of ${link.textContent}`);
  return made;
}

for (const link of document.querySelectorAll("section .images .path")) link.after(copyButton(link, link.title));

async function copy(text, trigger) {
  const place = trigger.closest("dialog") ?? document.body;
  const said = place.querySelector(":scope > .said");
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = place.appendChild(element("textarea", "unseen"));
    field.value = text;
    field.select();
    done = document.execCommand("copy");
    field.remove();
    trigger.focus();
  }
  said.textContent = done ? `Copied ${shown(text)}` : `This browser copies nothing from here: ${shown(text)}`;
  clearTimeout(said.waiting);
  said.waiting = setTimeout(() => said.replaceChildren(), done ? 2500 : 20000);
}
