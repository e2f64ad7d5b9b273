// What this browser remembers: nothing of it leaves it.
export function recall(name, otherwise) {
  try {
    const found = localStorage.getItem(`rstpm-edge.${name}`);
    return found === null ? otherwise : JSON.parse(found);
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`rstpm-edge.${name}`, JSON.stringify(value));
  } catch { /* a browser that keeps nothing */ }
}
