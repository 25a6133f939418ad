// Unistore-server is the storage of a TiDB cluster for tests: unistore, the
// engine that tidb-server embeds, as a process of its own that speaks TiKV's
// protocol and registers with a real PD. See README.md beside the launcher.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pingcap/kvproto/pkg/deadlock"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/pingcap/log"
	"github.com/pingcap/tidb/pkg/store/mockstore/unistore/config"
	"github.com/pingcap/tidb/pkg/store/mockstore/unistore/pd"
	"github.com/pingcap/tidb/pkg/store/mockstore/unistore/server"
	"github.com/pingcap/tidb/pkg/store/mockstore/unistore/tikv"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// TiDB sends transactions of up to 100 MB in parts of some megabytes.
	maxMessage = 64 << 20
	// TiDB's own keepalive is every 10 seconds; gRPC's default allows one
	// every 5 minutes and closes the connection otherwise.
	minKeepalive = time.Second
)

// options are the flags of the command line.
type options struct {
	pd, address, statusAddress string
	directory                  string
	durable                    bool
	version, logLevel          string
}

func main() {
	var o options
	flag.StringVar(&o.pd, "pd", "", "address of PD")
	flag.StringVar(&o.address, "addr", "", "address to serve TiKV's protocol on")
	flag.StringVar(&o.statusAddress, "status-addr", "", "address of the HTTP status page")
	flag.StringVar(&o.directory, "data-dir", "", "directory for the data, which must exist")
	flag.BoolVar(&o.durable, "durable", false, "keep the data when the process is killed")
	flag.StringVar(&o.version, "version", "8.5.6", "version of TiKV to report to PD")
	flag.StringVar(&o.logLevel, "L", "error", "level of the log, which goes to stderr")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "unistore-server:", err)
		os.Exit(1)
	}
}

// run serves until it is told to stop with SIGINT or SIGTERM.
func run(o options) error {
	if info, err := os.Stat(o.directory); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("-data-dir %s is not a directory", o.directory)
	}
	logger, properties, err := log.InitLogger(&log.Config{Level: o.logLevel})
	if err != nil {
		return err
	}
	log.ReplaceGlobals(logger, properties)
	listener, err := net.Listen("tcp", o.address)
	if err != nil {
		return err
	}
	statusListener, err := net.Listen("tcp", o.statusAddress)
	if err != nil {
		return err
	}
	client, err := pd.NewClient([]string{o.pd}, "unistore")
	if err != nil {
		return err
	}
	defer client.Close()
	engine, err := server.New(engineConfig(o, listener.Addr()), &registrar{
		Client:        client,
		version:       o.version,
		statusAddress: statusListener.Addr().String(),
		started:       time.Now().Unix(),
	})
	if err != nil {
		return err
	}
	rpc := rpcServer(engine)

	// The page is there from now on, when the store is registered with PD.
	page := &http.Server{
		Handler:           http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ReadHeaderTimeout: time.Minute,
	}
	failed := make(chan error, 2)
	go func() { failed <- page.Serve(statusListener) }()
	go func() { failed <- rpc.Serve(listener) }()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	select {
	case err = <-failed:
	case <-stop:
	}
	rpc.Stop()
	engine.Stop()
	return errors.Join(err, page.Close())
}

func engineConfig(o options, address net.Addr) *config.Config {
	conf := config.DefaultConf
	conf.Server.Raft = false // there is one store only
	conf.Server.PDAddr = o.pd
	conf.Server.StoreAddr = address.String()
	conf.Engine.DBPath = o.directory
	conf.Engine.ValueThreshold = 0
	if !o.durable {
		// As a tidb-server does for an embedded store without a path.
		conf.Engine.VolatileMode = true
		conf.Engine.MaxMemTableSize = 12 << 20
		conf.Engine.SyncWrite = false
		conf.Engine.NumCompactors = 1
		conf.Engine.CompactL0WhenClose = false
		conf.Engine.VlogFileSize = 16 << 20
	}
	return &conf
}

func rpcServer(engine *tikv.Server) *grpc.Server {
	rpc := grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             minKeepalive,
			PermitWithoutStream: true,
		}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.UnaryInterceptor(func(
			ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
		) (reply any, err error) {
			defer recoverUnimplemented(info.FullMethod, &err)
			return handle(ctx, request)
		}),
		grpc.StreamInterceptor(func(
			service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
		) (err error) {
			defer recoverUnimplemented(info.FullMethod, &err)
			return handle(service, stream)
		}),
	)
	tikvpb.RegisterTikvServer(rpc, twoPhaseOnly{engine})
	deadlock.RegisterDeadlockServer(rpc, engine)
	// TiDB asks this whether a store that it has lost is back.
	grpc_health_v1.RegisterHealthServer(rpc, health.NewServer())
	return rpc
}

// recoverUnimplemented makes an error of the panic of a call that unistore
// lacks, which would end the process.
func recoverUnimplemented(method string, err *error) {
	if reason := recover(); reason != nil {
		*err = status.Errorf(codes.Unimplemented, "%s: %v", method, reason)
	}
}

// twoPhaseOnly declines async commit and one-phase commit, with which
// unistore lets concurrent reads see half a transaction. TiDB then commits in
// two phases.
type twoPhaseOnly struct{ *tikv.Server }

func (s twoPhaseOnly) KvPrewrite(
	ctx context.Context, request *kvrpcpb.PrewriteRequest,
) (*kvrpcpb.PrewriteResponse, error) {
	request.UseAsyncCommit, request.TryOnePc = false, false
	return s.Server.KvPrewrite(ctx, request)
}

// BatchCommands would go past KvPrewrite, and unistore answers some of the
// commands with nothing.
func (s twoPhaseOnly) BatchCommands(tikvpb.Tikv_BatchCommandsServer) error {
	return status.Error(
		codes.Unimplemented,
		"TiDB sends no batches of commands if tikv-client.max-batch-size is 0",
	)
}

// registrar adds to the registration with PD what unistore leaves out.
type registrar struct {
	pd.Client
	version, statusAddress string
	started                int64
}

func (r *registrar) PutStore(ctx context.Context, store *metapb.Store) error {
	store.Version = r.version
	store.StatusAddress = r.statusAddress
	store.StartTimestamp = r.started
	return r.Client.PutStore(ctx, store)
}
