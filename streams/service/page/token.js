/* The API token as typed by the user: in memory only, until the page is closed. */
let token = null;
const waiting = new Set();

export const heldToken = () => token;

/** Set or clear the token, and call the listeners. */
export function holdToken(text) {
  token = text || null;
  for (const told of waiting) told(token);
}

export const onToken = (told) => waiting.add(told);
