// Frames of a video file, by the decoder of this browser. It needs the page: workers have no video element.

const SIDE = 854; // long side of frames, as clips4.serve.clips has it
const MAX_FRAMES = 300;
const MEASURED = 12; // frames that are played to learn how many a second has
const QUALITY = 0.92;

/**
 * @param {Blob} file
 * @param {string} name
 * @returns {Promise<{rate: number, frames: Blob[]}>} JPEGs
 */
export async function framesOf(file, name) {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.src = URL.createObjectURL(file);
  try {
    await happens(video, "loadeddata").catch(() => {
      throw new Error(`${name}: no video that this browser can play`);
    });
    const { videoWidth: width, videoHeight: height, duration } = video;
    if (!width || !height || !Number.isFinite(duration)) throw new Error(`${name}: no video, or one without an end`);
    const rate = await rateOf(video, name), count = Math.max(1, Math.round(duration * rate));
    if (count > MAX_FRAMES) throw new Error(`${name}: more than ${MAX_FRAMES} frames; cut it, or use clips4 track`);
    const scale = Math.min(1, SIDE / Math.max(width, height));
    const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale)), drawn = canvas.getContext("2d");
    if (!drawn) throw new Error("this browser has no canvas");
    const frames = [];
    for (let number = 0; number < count; number++) {
      video.currentTime = Math.min((number + 0.5) / rate, duration);
      await happens(video, "seeked");
      drawn.drawImage(video, 0, 0, canvas.width, canvas.height);
      frames.push(await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY }));
    }
    return { rate, frames };
  } finally {
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load();
  }
}

/**
 * Frames a second: files do not say it to a page, so that some frames are played. Where one is dropped two times differ
 * by two frames, hence the smallest difference.
 * @param {HTMLVideoElement} video
 * @param {string} name
 */
async function rateOf(video, name) {
  if (!video.requestVideoFrameCallback) throw new Error(`${name}: this browser does not tell the frames of a video; open them as images`);
  /** @type {number[]} */
  const times = [];
  const ended = happens(video, "ended");
  const enough = new Promise((resolve) => {
    const next = (/** @type {number} */ _now, /** @type {VideoFrameCallbackMetadata} */ { mediaTime }) => {
      times.push(mediaTime);
      if (times.length < MEASURED) video.requestVideoFrameCallback(next);
      else resolve(null);
    };
    video.requestVideoFrameCallback(next);
  });
  await video.play();
  await Promise.race([enough, ended]);
  video.pause();
  const steps = times.slice(1).map((time, i) => time - times[i]).filter((step) => step > 0.001);
  return steps.length ? Math.round(1000 / Math.min(...steps)) / 1000 : 1 / Math.max(video.duration, 0.001);
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} event
 */
const happens = (video, event) =>
  new Promise((resolve, reject) => {
    video.addEventListener(event, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(video.error?.message || "the video cannot be decoded")), { once: true });
  });
