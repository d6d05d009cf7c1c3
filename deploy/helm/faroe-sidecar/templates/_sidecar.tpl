{{/*
Mode sidecar: what the chart of somebody's UserStore includes in the template of its pods. The chart
names this one as a dependency, sets `mode: sidecar` among its values, and hands its context on:

  {{- $sidecar := index .Subcharts "faroe-sidecar" }}

  template:
    metadata:
      labels:
        {{- include "faroe-sidecar.sidecar.podLabels" $sidecar | nindent 8 }}
    spec:
      terminationGracePeriodSeconds: {{ include "faroe-sidecar.sidecar.gracePeriodSeconds" $sidecar }}
      initContainers:
        {{- include "faroe-sidecar.sidecar.native" $sidecar | nindent 8 }}
      containers:
        - name: store
          lifecycle:
            {{- include "faroe-sidecar.sidecar.storeLifecycle" $sidecar | nindent 12 }}
          volumeMounts:
            {{- include "faroe-sidecar.sidecar.storeVolumeMounts" $sidecar | nindent 12 }}
      volumes:
        {{- include "faroe-sidecar.sidecar.volumes" $sidecar | nindent 8 }}

Before Kubernetes 1.29, faroe-sidecar.sidecar.plain goes into containers instead.

The end of such a pod: the kubelet runs every preStop hook at once. The sidecar's tells callers to go
elsewhere, and goes on serving. The store's waits, so that it answers what still arrives. Then the
store gets SIGTERM, and the native sidecar after the store has ended. The plain container gets SIGTERM
at once, serves for drain.delaySeconds more, and ends before the store does.
*/}}

{{/* Labels by which the Service, the NetworkPolicy and the PodMonitor find the pods. */}}
{{- define "faroe-sidecar.sidecar.podLabels" -}}
{{ include "faroe-sidecar.selectorLabels" . }}
{{- end -}}

{{/* For `initContainers`: a native sidecar, from Kubernetes 1.29. It starts before the store. */}}
{{- define "faroe-sidecar.sidecar.native" -}}
{{- if semverCompare "<1.29-0" .Capabilities.KubeVersion.Version -}}
{{- fail "faroe-sidecar.sidecar.native: native sidecars need Kubernetes 1.29: include faroe-sidecar.sidecar.plain in containers instead" -}}
{{- end -}}
- name: faroe-sidecar
  restartPolicy: Always
  {{- include "faroe-sidecar.sidecar.container" . | nindent 2 }}
{{- end -}}

{{/* For `containers`: a plain container, for clusters before 1.29. */}}
{{- define "faroe-sidecar.sidecar.plain" -}}
- name: faroe-sidecar
  {{- include "faroe-sidecar.sidecar.container" . | nindent 2 }}
{{- end -}}

{{- define "faroe-sidecar.sidecar.container" -}}
{{- include "faroe-sidecar.validate" . -}}
{{ include "faroe-sidecar.container" . }}
lifecycle:
  preStop:
    exec:
      command: [faroe-sidecar, drain]
{{- end -}}

{{/* For `volumes`. */}}
{{- define "faroe-sidecar.sidecar.volumes" -}}
{{ include "faroe-sidecar.volumes" . }}
{{- end -}}

{{/* For `volumeMounts` of the store's container: the folder of its Unix socket. Nothing on localhost. */}}
{{- define "faroe-sidecar.sidecar.storeVolumeMounts" -}}
{{- if hasPrefix "unix:" .Values.store.url -}}
- name: {{ include "faroe-sidecar.volume" (list . "userstore") }}
  mountPath: /run/faroe-userstore
{{- end -}}
{{- end -}}

{{/* How long the store waits in its preStop: requests arrive for the delay, and each has its time. */}}
{{- define "faroe-sidecar.sidecar.storeWaitSeconds" -}}
{{ add .Values.drain.delaySeconds .Values.store.timeoutSeconds }}
{{- end -}}

{{/* For `lifecycle` of the store's container. Before Kubernetes 1.30 its image needs `sleep`. */}}
{{- define "faroe-sidecar.sidecar.storeLifecycle" -}}
preStop:
  {{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}
  sleep:
    seconds: {{ include "faroe-sidecar.sidecar.storeWaitSeconds" . }}
  {{- else }}
  exec:
    command: [sleep, {{ include "faroe-sidecar.sidecar.storeWaitSeconds" . | quote }}]
  {{- end }}
{{- end -}}

{{/* For `terminationGracePeriodSeconds`: the store waits and ends, and then the sidecar does. */}}
{{- define "faroe-sidecar.sidecar.gracePeriodSeconds" -}}
{{ add (include "faroe-sidecar.sidecar.storeWaitSeconds" .) .Values.drain.timeoutSeconds 5 }}
{{- end -}}
