/* Light, dark, or the system's theme. The choice is stored in this browser. */
const NAMES = ["system", "light", "dark"], KEY = "manifold-theme";

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is disabled: the choice is kept until the page is closed
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
