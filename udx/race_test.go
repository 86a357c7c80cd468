//go:build race

package udx

// raceEnabled says that the race detector is on: sync.Pool forgets at random.
const raceEnabled = true
