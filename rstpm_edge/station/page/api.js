// What the page asks of its station: JSON, and one sentence where something is refused.
let whoIsIt = async () => {};

export const onLogin = (ask) => { whoIsIt = ask; };

async function ask(method, path, body) {
  const options = { method, headers: {}, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  for (;;) {
    const answer = await fetch(path, options);
    if (answer.status === 401) {
      await whoIsIt();
      continue;
    }
    const document = await answer.json();
    if (!answer.ok) throw new Error(document.error || answer.statusText);
    return document;
  }
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);

export async function logIn(token) {
  const answer = await fetch("/v1/session", {
    method: "POST", headers: { "Content-Type": "application/json" }, credentials: "same-origin", body: JSON.stringify({ token }),
  });
  return answer.ok;
}
