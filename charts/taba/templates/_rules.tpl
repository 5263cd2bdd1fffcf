{{/*
What the operator may do in a namespace with clusters. Each kind is one that it makes, or looks at to know how clusters
fare; nothing is granted on kinds that it does not touch.
*/}}
{{- define "taba.clusterRules" -}}
- apiGroups: [taba.dev]
  resources: [tabaclusters]
  verbs: [get, list, watch]
- apiGroups: [taba.dev]
  resources: [tabaclusters/status]
  verbs: [patch]
# To name a cluster as owner, where the API server asks for this right.
- apiGroups: [taba.dev]
  resources: [tabaclusters/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [configmaps, secrets, serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
# StatefulSets make claims; the operator only makes them grow.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch]
# Shard pods are replaced in an order that only the operator knows.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [patch]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What it may do in its own namespace: agree with other operator pods on who acts. */}}
{{- define "taba.leaderRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
{{- end -}}

{{- define "taba.subject" -}}
kind: ServiceAccount
name: {{ include "taba.serviceAccount" . }}
namespace: {{ .Release.Namespace }}
{{- end -}}
