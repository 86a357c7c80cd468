package udx

import "time"

// Stats are a stream's counters and estimates. Counters start with the stream.
// Bytes are UDP payloads: sent ones without the padding of MTU probes, received
// ones with it, as the reference counts them.
type Stats struct {
	BytesSent, PacketsSent         uint64
	BytesReceived, PacketsReceived uint64

	PacketsLost  uint64 // declared lost
	Retransmits  uint64 // packets sent again
	Recoveries   uint64 // times that losses were repaired without a timeout
	Timeouts     uint64 // retransmission timeouts
	TailProbes   uint64 // packets sent again for want of any acknowledgement
	WindowProbes uint64 // sent into the peer's closed window
	BadBlocks    uint64 // SACK blocks that made no sense
	BadPackets   uint64 // packets for the stream that could not be parsed
	BadResets    uint64 // DESTROYs that did not end the stream at once

	RTT       time.Duration // smoothed; 0: unknown
	MinRTT    time.Duration
	RTO       time.Duration // retransmission timeout
	MTU       int           // size of the largest IP packets sent, in bytes
	Window    int           // congestion window in packets
	InFlight  int           // packets in flight
	Unsent    int           // bytes written and not sent yet
	Unread    int           // bytes received and not read yet
	State     string        // of congestion control: STARTUP, DRAIN, PROBE_BW or PROBE_RTT
	Bandwidth float64       // estimated delivery rate of the path, in bytes of payload per second
}

// snapshot fills in the estimates.
func (c *core) snapshot() Stats {
	s := c.stats
	s.RTT, s.MinRTT, s.RTO = c.rttEst.smoothed, c.minRTT.Value(), c.rttEst.timeout()
	s.MTU = c.mtu.size
	s.Window = c.cc.window()
	s.InFlight = c.snd.flight.n
	s.Unsent = c.snd.unsentBytes
	s.Unread = c.rcv.queue.size
	s.State = c.bbr.state.String()
	s.Bandwidth = c.bbr.bandwidth.Value() * float64(c.mss()) / float64(c.mtu.size)
	return s
}
