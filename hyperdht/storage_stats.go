package hyperdht

// A StorageCounts counts what was asked of a storing node. The counters only
// grow.
type StorageCounts struct {
	// Served are requests answered with success, by command.
	FindPeer, Lookup, Announce, Unannounce, Refresh    uint64
	MutablePut, MutableGet, ImmutablePut, ImmutableGet uint64
	Plugin                                             uint64
	SeqReused, SeqTooLow                               uint64 // mutable puts answered with an error
	// Refused are requests that were not answered: Malformed ones lack
	// something or do not decode, BadTarget is not the hash of the key or
	// value, BadSignature does not verify, TooLarge is above MaxStoredValue,
	// UnknownRefresh names no chain, UnknownPlugin no plugin of this node.
	Malformed, BadTarget, BadSignature, TooLarge, UnknownRefresh, UnknownPlugin uint64
	// IgnoredBump are announcements whose bump was stale or too far ahead.
	IgnoredBump uint64
}
