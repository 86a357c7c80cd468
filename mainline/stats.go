package mainline

// Stats are a node's counters since it was made, and its present state. The
// counters only grow.
type Stats struct {
	// Sockets are the sockets' states, in the order of Config.Addrs.
	Sockets []SocketStats

	Served   Served   // queries of others that were answered, by method
	Sent     uint64   // queries that we sent, retransmissions included
	Answered uint64   // queries of ours that were answered
	Failed   uint64   // queries of ours that were answered with an error
	TimedOut uint64   // queries of ours that never were
	Inflight int      // queries of ours under way
	Dropped  Dropped  // datagrams that were not answered
	Peers    int      // peers kept for others
	Hashes   int      // info-hashes they belong to
	Items    int      // items kept for others
	Tokens   int      // targets whose tokens are remembered
	Evicted  uint64   // peers and items that gave way to others
	Errors   Refusals // errors that we replied
}

// SocketStats describe one socket.
type SocketStats struct {
	ID    ID
	Nodes int // in its routing table
	Calls int // queries under way
}

// Served counts the queries that were answered with a result.
type Served struct {
	Ping, FindNode, GetPeers, Announce, Get, Put, Sample uint64
}

// Refusals counts the queries that were answered with an error.
type Refusals struct {
	Protocol, Method, Value, Signature, Salt, CAS, Seq uint64
}

func (r *Refusals) count(code Code) {
	switch code {
	case CodeUnknownMethod:
		r.Method++
	case CodeValueTooBig:
		r.Value++
	case CodeBadSignature:
		r.Signature++
	case CodeSaltTooBig:
		r.Salt++
	case CodeCASMismatch:
		r.CAS++
	case CodeSeqTooLow:
		r.Seq++
	default:
		r.Protocol++
	}
}

// Dropped counts datagrams that led to nothing, by reason.
type Dropped struct {
	Malformed  uint64 // no KRPC message
	Unexpected uint64 // an answer to no query under way, or from another address
	Limited    uint64 // its source sends too much
	ReadOnly   uint64 // a query to a node that is read-only
}
