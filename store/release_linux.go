package store

import (
	"unsafe"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// release unmaps the pages of the file that were looked at. The kernel keeps
// them as it keeps all files, but they no longer count as this process's
// memory; looked at again they are mapped again. Nobody else may use the
// database meanwhile.
func release(db *bbolt.DB) {
	var size int64
	db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	})
	info := db.Info()
	if info.Data == 0 || size <= 0 {
		return
	}
	at := *(*unsafe.Pointer)(unsafe.Pointer(&info.Data))
	unix.Madvise(unsafe.Slice((*byte)(at), size), unix.MADV_DONTNEED)
}
