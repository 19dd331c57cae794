/** What the uplink has sent and heard, over all its connections. */
export interface SessionStats {
  sentFrames: number;
  sentBytes: number;
  sentMessages: number;
  backlogBytes: number;
  acknowledgedMessages: number;
  inFlightBytes: number;
  ackTimeouts: number;
  windowBytes: number;
  expiredMessages: number;
  recalledMessages: number;
}

export const freshStats = (): SessionStats => ({
  sentFrames: 0,
  sentBytes: 0,
  sentMessages: 0,
  backlogBytes: 0,
  acknowledgedMessages: 0,
  inFlightBytes: 0,
  ackTimeouts: 0,
  windowBytes: 0,
  expiredMessages: 0,
  recalledMessages: 0,
});
