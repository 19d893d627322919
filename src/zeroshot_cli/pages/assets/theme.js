"use strict";
// Applies the colours that were chosen last, before anything is drawn; the button chooses the others, then the same as
// the system's, then those of the system again. Pages that draw on a canvas listen to `themechange`.
{
  const KEY = "zeroshot-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  function apply(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    document.dispatchEvent(new Event("themechange"));
  }

  function remembered() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // where the browser keeps nothing for files
    }
  }

  function next() {
    const order = system.matches ? ["auto", "light", "dark"] : ["auto", "dark", "light"];
    const theme = order[(order.indexOf(root.dataset.theme ?? "auto") + 1) % 3];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // it lasts as long as the page
    }
    apply(theme);
  }

  apply(remembered());
  document.addEventListener("click", (event) => event.target.closest?.("#theme") && next());
  addEventListener("storage", (event) => event.key === KEY && apply(event.newValue));
  system.addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
}
