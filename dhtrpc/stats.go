package dhtrpc

// Stats are a node's counters since it was made, and its present state.
type Stats struct {
	Queries struct {
		Active, Total int
	}
	// Requests that the node made.
	Requests struct {
		Active    int // in flight, those that wait for the window included
		Total     int
		Responses int // ended by an answer
		Timeouts  int // ended without one
		Retries   int // transmissions after the first
	}
	// The protocol's own commands.
	Ping, PingNAT, FindNode, DownHint, DelayedPing CommandStats
	// User counts the commands of the application, all numbers together.
	User CommandStats

	// Bad counts datagrams that were dropped, by kind.
	Bad struct {
		Malformed  int // does not parse
		Address    int // source port 0 or not IPv4
		Unexpected int // a reply to no request in flight
		Foreign    int // a reply from another address than the one asked
		Suspended  int // arrived while the node was suspended
	}
	Refused struct {
		Tokens   int // requests with an invalid token
		Limits   int // what Limits forbade
		TooLarge int // replies above MaxReply
		Panics   int // of the handler
	}
	Nodes  int // in the routing table
	Checks int // liveness checks under way
}

// CommandStats count one command.
type CommandStats struct {
	Tx       int // requests made
	Rx       int // answers received
	Errors   int // of them with an error code
	Timeouts int // requests that nobody answered
	Retries  int // transmissions after the first
	Served   int // requests of others
}

// command returns the counters of a command.
func (s *Stats) command(internal bool, n uint64) *CommandStats {
	if !internal {
		return &s.User
	}
	switch n {
	case cmdPing:
		return &s.Ping
	case cmdPingNAT:
		return &s.PingNAT
	case cmdFindNode:
		return &s.FindNode
	case cmdDownHint:
		return &s.DownHint
	case cmdDelayedPing:
		return &s.DelayedPing
	}
	return nil
}

// Health is what a node thinks of its connection to the network, judged by the
// last four ticks of five seconds.
type Health struct {
	Online   bool // requests are answered, or too few were made to tell
	Degraded bool // more than half of them are not
	Cold     bool // fewer than four ticks since the start or the last wake-up
	Idle     bool // the last tick ended fewer than four requests
	// Responses and Timeouts of the last tick.
	Responses, Timeouts int
}
