/* Light, dark, or as the system has it. The choice stays on this computer. */
const NAMES = ["system", "light", "dark"], KEY = "manifold-theme";

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off: the choice lives as long as the page
  }
}

function remember(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    document.documentElement.dataset.forgets = "theme";
  }
}

export function startTheme(button) {
  let at = Math.max(0, NAMES.indexOf(remembered()));
  const set = () => {
    if (at) document.documentElement.dataset.theme = NAMES[at];
    else delete document.documentElement.dataset.theme;
    button.textContent = "Theme: " + NAMES[at];
  };
  button.addEventListener("click", () => {
    at = (at + 1) % NAMES.length;
    remember(NAMES[at]);
    set();
  });
  set();
}
