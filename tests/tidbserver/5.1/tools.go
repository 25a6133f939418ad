//go:build tools

// Package tidbserver pins the server that is built from this module.
package tidbserver

import _ "github.com/pingcap/tidb/tidb-server"
