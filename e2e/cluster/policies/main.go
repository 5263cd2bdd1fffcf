// Package main enforces NetworkPolicies on one node of the test cluster.
//
// The engine is that of sigs.k8s.io/kube-network-policies: it decides about the first packet of every connection that
// the kernel hands it. Its own rules for handing them over need an expression of nftables that many kernels are built
// without (CONFIG_NFT_QUEUE), so the rules here are those of iptables, whose target NFQUEUE is as good and everywhere.
//
// Nothing passes while this program does not run: a test must not take an enforcer that is dead for a policy that allows.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

// The engine writes its rules when it starts, and anew whenever a pod of its node changes. This name, longer than the
// kernel takes, has it refuse them as a whole. Refused one by one, the chains that they are in would come and go, and with
// each chain that goes the kernel drops all packets that wait for a verdict: on a busy machine names were asked for in
// vain for seconds.
var noTable = strings.Repeat("-", 256)

// The node whose pods the engine writes rules for; nothing else asks. All of them would be worked out for each change of
// a pod, to be refused: with seventy pods a sixth of the work of the whole cluster.
const noNode = "-"

// The number of the kernel's queue. Queues belong to a network namespace, so all nodes may use one.
const queue = 100

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	pods := flag.String("pods", "", "the network of all pods")
	flag.Parse()
	if err := run(*kubeconfig, *pods); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(kubeconfig, pods string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	// Every enforcer reads every pod; JSON would cost several times as much.
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	engine, err := networkpolicy.NewController(
		client,
		factory.Networking().V1().NetworkPolicies(),
		factory.Core().V1().Namespaces(),
		factory.Core().V1().Pods(),
		nil, nil, nil, nil,
		// It looks for the container runtime's plugin socket, which is not there, and goes on. Told not to look, this
		// release crashes at the first packet of an address that no pod has.
		networkpolicy.Config{NodeName: noNode, QueueID: queue, NFTableName: noTable},
	)
	if err != nil {
		return fmt.Errorf("make the engine: %w", err)
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("no %v came", kind)
		}
	}
	if err := handOver(pods); err != nil {
		return err
	}
	fmt.Println("enforcing network policies")
	return engine.Run(ctx)
}

// handOver makes the kernel queue the first packet of every connection from or to a pod. What processes of the node
// itself send, such as the kubelet's probes, is left alone, as Kubernetes asks.
func handOver(pods string) error {
	rules := [][]string{
		{"-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "RETURN"},
		{"-m", "owner", "--uid-owner", "0", "-j", "RETURN"},
		{"-s", pods, "-j", "NFQUEUE", "--queue-num", fmt.Sprint(queue)},
		{"-d", pods, "-j", "NFQUEUE", "--queue-num", fmt.Sprint(queue)},
	}
	// After the addresses of Services were replaced by those of pods, before anything is masked.
	for _, rule := range rules {
		words := append([]string{"-w", "-t", "mangle", "-A", "POSTROUTING"}, rule...)
		if output, err := exec.Command("iptables", words...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables %s: %w: %s", strings.Join(words, " "), err, output)
		}
	}
	return nil
}
