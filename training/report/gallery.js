// Gallery: filters and order.
{
  const filters = document.getElementById("filters");
  const list = document.getElementById("images");
  const items = [...list.children]; // as they came: worst first
  const { kind, outcome, order, count } = filters.elements;
  const score = (item) => Number(item.dataset.score);
  const orders = {
    worst: () => 0,
    falling: (a, b) => score(b) - score(a),
    rising: (a, b) => score(a) - score(b),
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
  };

  const update = () => {
    let shown = 0;
    for (const item of items) {
      item.hidden =
        (kind.value !== "" && item.dataset.kind !== kind.value) ||
        (outcome.value !== "" && item.dataset.outcome !== outcome.value);
      shown += item.hidden ? 0 : 1;
    }
    list.append(...[...items].sort(orders[order.value]));
    count.value = `${shown} of ${items.length} shown`;
  };

  filters.addEventListener("change", update);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.hidden = false;
  update();
}
