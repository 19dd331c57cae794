/** Colours of the page as it is now, light or dark, and an axis in them. */
export function inkOf() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const line = { stroke: colour('--line'), width: 1 };
  return { colour, axis: { stroke: colour('--quiet'), grid: line, ticks: line } };
}
