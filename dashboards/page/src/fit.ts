/** A chart as wide as its place, for as long as it is shown. */
import type uPlot from 'uplot';

/** Gives what takes the chart away. */
export function fitted(plot: uPlot, element: HTMLElement, height: number): () => void {
  const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height }));
  observer.observe(element);
  return () => {
    observer.disconnect();
    plot.destroy();
  };
}
