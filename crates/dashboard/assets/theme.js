// Which colours: those of the system, or what was chosen here. Runs before anything is drawn.
"use strict";
(() => {
  const names = ["system", "dark", "light"];
  const root = document.documentElement;
  let chosen = "system";
  try {
    chosen = localStorage.getItem("vlinders-theme") ?? "system";
  } catch {
    // storage is switched off: the choice lasts as long as the page
  }
  const show = () => {
    if (!names.includes(chosen)) chosen = "system";
    if (chosen === "system") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", chosen);
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${chosen}`;
  };
  show();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      chosen = names[(names.indexOf(chosen) + 1) % names.length];
      try {
        localStorage.setItem("vlinders-theme", chosen);
      } catch {
        // as above
      }
      show();
    });
  });
})();
