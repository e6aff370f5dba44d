// Types that the modules share; this file holds no code.

/**
 * @typedef {{name: string, queried: string[] | null}} ClassRequest
 * A class, and the class names that it stands for: itself if null, none for one of examples alone.
 *
 * @typedef {{classes: ClassRequest[], unknown: boolean, by: "run" | "teacher"}} Query
 *
 * @typedef {object} LegendEntry
 * @property {string} name
 * @property {number} label index of the class; below -1 for a discovered unknown class, -1 for unknown by hand
 * @property {number[]} color
 * @property {number} share 0 to 1
 * @property {string} source
 * @property {string[]} [suggested] names, for an unknown class
 *
 * @typedef {{width: number, height: number, labels: Int16Array, legend: LegendEntry[]}} Labels
 * @typedef {{id: string, name: string, width: number, height: number, view: number[]}} ImageFacts
 * @typedef {{width: number, height: number, labels: Int32Array, regions: number[]}} Segments
 * @typedef {{best: {name: string, cosine: number}[], segment: number, region: number}} Why
 * @typedef {{image: string, width: number, height: number, values: ArrayLike<number>}} SimilarityMap
 * @typedef {{maps: SimilarityMap[], nearest: {image: string, segment: number, cosine: number}[]}} Similar
 * @typedef {{name: string, image: string, segments: number[], negative_of: string | null}} Example
 *
 * @typedef {{name: string, file: string, bytes: number}} NetworkFacts
 *
 * @typedef {object} About
 * @property {string} title
 * @property {string[]} classes
 * @property {boolean} teacher
 * @property {string[] | null} sets names of saved class sets; null where none can be saved
 * @property {number} unknown number of unknown prototypes
 * @property {NetworkFacts[]} [networks] to choose from
 *
 * @typedef {object} ClipFacts
 * @property {string} id
 * @property {number} frames
 * @property {number} width
 * @property {number} height
 * @property {number} rate
 * @property {string} state "ready", "tracking", "stopped" or "done"
 * @property {string} problem
 * @property {number[]} tracked
 */

/**
 * What the page needs of a model.
 * @typedef {object} Engine
 * @property {() => Promise<About>} about
 * @property {() => Promise<string[]>} names
 * @property {() => Promise<{images: ImageFacts[], listed: {number: number, name: string}[]}>} images
 * @property {(file: Blob, name: string) => Promise<ImageFacts>} open
 * @property {(number: number) => Promise<ImageFacts>} openListed
 * @property {(id: string) => Promise<ImageBitmap>} view
 * @property {(id: string) => Promise<void>} close
 * @property {(id: string) => Promise<Segments>} segments
 * @property {(id: string, query: Query) => Promise<Labels>} labels
 * @property {(id: string, query: Query, x: number, y: number) => Promise<Why>} why
 * @property {(id: string, x: number, y: number) => Promise<Similar>} similar
 * @property {(id: string, segments: number[], name: string, negative: boolean, query: Query) => Promise<Example[]>} addExample
 * @property {() => Promise<Example[]>} undoExample
 * @property {(id: string, segments: number[], name: string | null) => Promise<void>} edit
 * @property {(id: string) => Promise<void>} undoEdit
 * @property {(ids: string[], format: string, query: Query) => Promise<{name: string, data: Blob}>} exportMasks
 * @property {((network: string) => Promise<void>) | null} use changes the network; null where there is one alone
 * @property {ClassSets | null} sets null where none can be kept
 * @property {(() => Promise<string>) | null} invite null where there is nobody to invite
 * @property {VideoEngine} video
 */

/**
 * @typedef {object} ClassSets
 * @property {(name: string, query: Query) => Promise<{sets: string[], command: string, file?: {name: string, data: Blob}}>} save
 * with a file where there is no run's folder to keep it in
 * @property {(name: string) => Promise<ClassRequest[]>} load
 * @property {(file: Blob, name: string) => Promise<{name: string, sets: string[]}>} [open] where they are files
 */

/**
 * @typedef {object} VideoEngine
 * @property {(file: Blob, name: string) => Promise<ClipFacts>} open
 * @property {(ids: string[]) => Promise<ClipFacts>} openImages
 * @property {(id: string) => Promise<ClipFacts>} facts
 * @property {(id: string, number: number) => Promise<Blob>} frame
 * @property {(id: string, number: number) => Promise<ImageFacts>} frameImage
 * @property {(id: string, number: number) => Promise<Int32Array>} mask
 * @property {(id: string, frame: number, runs: number[]) => Promise<ClipFacts>} track
 * @property {(id: string) => Promise<ClipFacts>} stop
 * @property {(id: string) => Promise<Blob>} exportMasks
 */

export {};
