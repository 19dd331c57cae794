/** Where a record of readings lies, so that what waits for the lake knows when it is there. */

/** Its place in the topic `readings`. */
export interface Place {
  partition: number;
  offset: number;
}
