{{/*
The container that serves, the same in each mode: its options, ports, probes and mounts. Files are
mounted as whole folders, never by subPath, because the kubelet brings only those up to date.
*/}}

{{/* What every container of the program has. */}}
{{- define "faroe-sidecar.containerBase" -}}
image: {{ include "faroe-sidecar.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end -}}

{{/* Options of `serve`. */}}
{{- define "faroe-sidecar.args" -}}
{{- $v := .Values -}}
{{- $ca := $v.certificates.clientCA -}}
{{- $clients := $v.allowClients -}}
{{- if include "faroe-sidecar.makesClientCertificate" . -}}
{{- $clients = append $clients (printf "dns:%s" $v.certificates.certManager.client.dnsName) | uniq -}}
{{- end -}}
- serve
- --listen=0.0.0.0:{{ $v.ports.https }}
- {{ printf "--path=%s" $v.path | quote }}
- --tls-cert=/etc/faroe-sidecar/tls/tls.crt
- --tls-key=/etc/faroe-sidecar/tls/tls.key
{{- if $ca.secretName }}
- {{ printf "--client-ca=/etc/faroe-sidecar/client-ca/%s" $ca.key | quote }}
{{- else }}
- --client-ca=/etc/faroe-sidecar/tls/ca.crt
{{- end }}
{{- with $ca.crlKey }}
- {{ printf "--client-crl=/etc/faroe-sidecar/client-ca/%s" . | quote }}
{{- end }}
{{- range $clients }}
- {{ printf "--allow-client=%s" . | quote }}
{{- end }}
{{- if $v.store.urlSecret.name }}
- --store-file=/etc/faroe-sidecar/store/url
{{- else }}
- {{ printf "--store=%s" $v.store.url | quote }}
{{- end }}
- --store-timeout={{ $v.store.timeoutSeconds }}s
{{- if and $v.store.tls.secretName (hasPrefix "grpcs:" $v.store.url) }}
- --store-ca=/etc/faroe-sidecar/store-tls/ca.crt
{{- if $v.store.tls.clientCertificate }}
- --store-cert=/etc/faroe-sidecar/store-tls/tls.crt
- --store-key=/etc/faroe-sidecar/store-tls/tls.key
{{- end }}
{{- end }}
- --drain-delay={{ $v.drain.delaySeconds }}s
- --drain-timeout={{ $v.drain.timeoutSeconds }}s
{{- range $v.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
The container. The startup probe passes when the listeners are bound and the certificates are loaded,
whether or not the store is there: it may be a container that starts later. Readiness follows the
store. Liveness follows neither: a restart would bring no store back.
*/}}
{{- define "faroe-sidecar.container" -}}
{{ include "faroe-sidecar.containerBase" . }}
args:
  {{- include "faroe-sidecar.args" . | nindent 2 }}
env:
  # `serve`, and `drain` in the same container, take the address from here.
  - name: FAROE_SIDECAR_ADMIN_LISTEN
    value: 0.0.0.0:{{ .Values.ports.admin }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: https
    containerPort: {{ .Values.ports.https }}
    protocol: TCP
  - name: admin
    containerPort: {{ .Values.ports.admin }}
    protocol: TCP
startupProbe:
  httpGet:
    path: /livez
    port: {{ .Values.ports.admin }}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ .Values.ports.admin }}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 1
livenessProbe:
  httpGet:
    path: /livez
    port: {{ .Values.ports.admin }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
volumeMounts:
  - name: {{ include "faroe-sidecar.volume" (list . "tls") }}
    mountPath: /etc/faroe-sidecar/tls
    readOnly: true
  {{- if .Values.certificates.clientCA.secretName }}
  - name: {{ include "faroe-sidecar.volume" (list . "client-ca") }}
    mountPath: /etc/faroe-sidecar/client-ca
    readOnly: true
  {{- end }}
  {{- if .Values.store.urlSecret.name }}
  - name: {{ include "faroe-sidecar.volume" (list . "store") }}
    mountPath: /etc/faroe-sidecar/store
    readOnly: true
  {{- end }}
  {{- if .Values.store.tls.secretName }}
  - name: {{ include "faroe-sidecar.volume" (list . "store-tls") }}
    mountPath: /etc/faroe-sidecar/store-tls
    readOnly: true
  {{- end }}
  {{- if hasPrefix "unix:" .Values.store.url }}
  - name: {{ include "faroe-sidecar.volume" (list . "userstore") }}
    mountPath: /run/faroe-userstore
    readOnly: true
  {{- end }}
{{- end -}}
