/* The API token, as the reader typed it: in memory until the page is closed, and nowhere else. */
let token = null;
const waiting = new Set();

export const heldToken = () => token;

/** Hold another token, or none; whoever waits for a change is told. */
export function holdToken(text) {
  token = text || null;
  for (const told of waiting) told(token);
}

export const onToken = (told) => waiting.add(told);
